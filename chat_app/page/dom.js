// Building and patching DOM nodes. The page's scripts are joined into one function body: `element`, `props`,
// `server`, `trigger` and `watch` come from Gradio.

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === 'on') for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    else if (value === true) node.setAttribute(name, '');
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.filter(child => child != null));
  return node;
}

const ICON_PATHS = {
  thumb: 'M7 11v9H4.6A1.6 1.6 0 0 1 3 18.4v-5.8A1.6 1.6 0 0 1 4.6 11H7Zm0 0 4-8a2.6 2.6 0 0 1 2.6 2.6V9.4h5a2.2 2.2 0 0 1 2.2 2.6l-1.2 6.2a2.2 2.2 0 0 1-2.2 1.8H7',
  star: 'M12 3.4l2.65 5.4 5.95.86-4.3 4.2 1 5.94L12 17l-5.3 2.8 1-5.94-4.3-4.2 5.95-.86z',
  send: 'M12 19V5M5.5 11.5 12 5l6.5 6.5',
  stop: 'M7.5 6h9A1.5 1.5 0 0 1 18 7.5v9a1.5 1.5 0 0 1-1.5 1.5h-9A1.5 1.5 0 0 1 6 16.5v-9A1.5 1.5 0 0 1 7.5 6z',
  plus: 'M12 5v14M5 12h14',
  again: 'M4 12a8 8 0 0 1 13.7-5.6L20 8.7M20 4v4.7h-4.7M20 12a8 8 0 0 1-13.7 5.6L4 15.3M4 20v-4.7h4.7',
  pair: 'M4.5 5h5A1 1 0 0 1 10.5 6v12a1 1 0 0 1-1 1h-5a1 1 0 0 1-1-1V6a1 1 0 0 1 1-1zM14.5 5h5a1 1 0 0 1 1 1v12a1 1 0 0 1-1 1h-5a1 1 0 0 1-1-1V6a1 1 0 0 1 1-1z',
  copy: 'M9.5 8.5h8A1.5 1.5 0 0 1 19 10v9a1.5 1.5 0 0 1-1.5 1.5h-8A1.5 1.5 0 0 1 8 19v-9a1.5 1.5 0 0 1 1.5-1.5zM5 15V5.5A1.5 1.5 0 0 1 6.5 4H15',
  check: 'M5 12.5l4.5 4.5L19 7.5',
  dots: 'M12 5.5v.1M12 12v.1M12 18.5v.1',
  list: 'M4 7h16M4 12h16M4 17h10',
  close: 'M6 6l12 12M18 6L6 18',
  pencil: 'M4 20l1-4.2L16.3 4.5a1.8 1.8 0 0 1 2.6 0l.6.6a1.8 1.8 0 0 1 0 2.6L8.2 19z',
  bin: 'M5 7h14M10 4h4M7 7l.8 12a1.5 1.5 0 0 0 1.5 1.4h5.4a1.5 1.5 0 0 0 1.5-1.4L17 7M10.3 11v5.5M13.7 11v5.5',
  info: 'M12 11v5.5M12 7.6v.1M12 3.5a8.5 8.5 0 1 1 0 17 8.5 8.5 0 0 1 0-17z',
  back: 'M14.5 6l-6 6 6 6',
  forth: 'M9.5 6l6 6-6 6',
};

function icon(name) {
  const space = 'http://www.w3.org/2000/svg', svg = document.createElementNS(space, 'svg'), path = document.createElementNS(space, 'path');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('class', `icon icon-${name}`);
  svg.setAttribute('aria-hidden', 'true');
  path.setAttribute('d', ICON_PATHS[name]);
  svg.append(path);
  return svg;
}

function iconButton(name, label, onClick, attributes = {}) {
  return make('button', {type: 'button', class: 'icon-button', 'aria-label': label, title: label, on: {click: onClick}, ...attributes}, icon(name));
}

// The same with a word under its icon, where the screen is small and nothing hovers (chat.css).
function labelled(button, text) {
  button.append(make('span', {class: 'tool-label', 'aria-hidden': 'true'}, text));
  return button;
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// Puts HTML that the server sanitised into `node`, leaving blocks that did not change alone, so that a selection
// or a focused link inside a reply survives while the rest of it is still being written.
function patchHtml(node, html) {
  if (node.shownHtml === html) return;
  node.shownHtml = html;
  const parsed = document.createElement('template');
  parsed.innerHTML = html;
  const fresh = [...parsed.content.childNodes], old = [...node.childNodes];
  fresh.forEach((child, i) => {
    if (!old[i]) node.append(child);
    else if (!old[i].isEqualNode(child)) old[i].replaceWith(child);
  });
  old.slice(fresh.length).forEach(child => child.remove());
}

// Makes `parent`'s children be exactly `wanted`, in that order, without touching those that are in place.
function arrange(parent, wanted) {
  wanted.forEach((node, i) => { if (parent.children[i] !== node) parent.insertBefore(node, parent.children[i] || null); });
  while (parent.children.length > wanted.length) parent.lastChild.remove();
}

// Puts rows that were made anew into `list`. The focus stays in its row, which `key` names in the dataset: on the button of the
// same name, else on the first. Returns whether it is lost, as that row is gone or has no button.
function replaceRows(list, rows, key) {
  const focused = document.activeElement, before = [...list.children].find(row => row.contains(focused));
  list.replaceChildren(...rows);
  if (!before) return false;
  const nameOf = button => button.getAttribute('aria-label') ?? button.textContent;
  const buttons = [...(rows.find(row => row.dataset[key] === before.dataset[key])?.querySelectorAll('button') ?? [])];
  const button = buttons.find(each => nameOf(each) === nameOf(focused)) ?? buttons[0];
  button?.focus({preventScroll: true});
  return !button;
}

// Whether a key is an input method's own: its Enter chooses a candidate, its Escape dismisses them. Some browsers say so by the key's number alone.
function composing(event) {
  return event.isComposing || event.keyCode === 229;
}

// Asks the server. Gradio resolves `undefined` when the network or the server failed, and never rejects.
async function ask(name, payload = {}) {
  const answer = await server[name](payload);
  return answer && typeof answer.ok === 'boolean' ? answer : {ok: false, kind: 'Network'};
}

// What the browser keeps, for good or until its tab is closed. Where storage is blocked or full, it is kept until the page is left.
const browserStore = createStore(() => localStorage), tabStore = createStore(() => sessionStorage);

// `area()`: a storage of the browser's; where it is blocked, naming it throws already.
function createStore(area) {
  const unstored = new Map();
  return {
    get(key) {
      if (unstored.has(key)) return unstored.get(key);
      try { return area().getItem(key); } catch { return null; }
    },
    set(key, value) {
      unstored.delete(key);
      try { area().setItem(key, value); } catch { unstored.set(key, value); }
    },
    remove(key) {
      unstored.delete(key);
      try { area().removeItem(key); } catch { /* nothing was stored */ }
    },
    clear() {
      unstored.clear();
      try { area().clear(); } catch { /* nothing was stored */ }
    },
  };
}
