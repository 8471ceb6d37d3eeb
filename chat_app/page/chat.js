// The chat page: what is open, what is being written, and a look at the server every few seconds.

const LOOK_EVERY = 3000;              // ms between looks at the server
const SILENCE = 6000;                 // ms without a part after which a stream counts as lost (the server beats every 2 s)
const state = {conversation: null, status: null, lastPart: 0, sending: false, opened: false};

const conversation = createConversation({regenerate, announce});
const composer = createComposer({send, stop: () => state.conversation && ask('ui_stop', {conversation: state.conversation})});
const versionPill = make('span', {class: 'pill version-pill'}, make('span', {class: 'pill-dot', 'aria-hidden': 'true'}), make('span', {class: 'pill-model'}), make('span', {class: 'pill-version'}));
const learning = make('span', {class: 'learning', hidden: true}, make('span', {class: 'spinner', 'aria-hidden': 'true'}), make('span', {class: 'learning-text'}, words.learning));
const announcer = make('p', {class: 'sr', role: 'status'});
const toast = make('p', {class: 'toast', hidden: true});
const freshLine = make('span', {});
const welcome = createWelcome();
const erased = make('p', {class: 'erased', role: 'status', hidden: true});
welcome.append(erased);
const consent = createConsent({answer: setContributes});
const menu = createMenu({setContributes, download, deleteEverything});
const drawer = createHistory({resume, deleted, isShown: id => id === state.conversation});

build();
open(named());
window.addEventListener('reply-part', event => takePart(event.detail));
window.addEventListener('popstate', () => { const id = named(); open(id, {fresh: !id}); });
setInterval(() => { if (!document.hidden) look(); }, LOOK_EVERY);
document.addEventListener('visibilitychange', () => { if (!document.hidden) look(); });

function build() {
  const brand = make('a', {class: 'brand', href: './', 'aria-label': words.home}, make('span', {class: 'mark', 'aria-hidden': 'true'}, icon('star')), make('h1', {}, words.product));
  const fresh = make('button', {type: 'button', class: 'quiet-button new', 'aria-label': words.new, title: words.new, on: {click: startNew}}, icon('plus'), make('span', {}, words.new));
  const print = make('p', {class: 'fine-print'}, freshLine, make('span', {}, ` ${words.mistakes} `), make('a', {href: 'maintainer'}, words.maintainer));
  element.replaceChildren(
    make('header', {class: 'topbar'}, drawer.button, brand, versionPill, learning, make('span', {class: 'spacer'}), fresh, menu.node),
    make('div', {class: 'column'}, welcome, conversation.log),
    make('div', {class: 'dock'}, toast, consent.node, composer.node, print),
    drawer.scrim, drawer.drawer, announcer);
  composer.fit();
}

function createWelcome() {
  const prompts = words.examples.map(text => make('button', {type: 'button', class: 'example', on: {click: () => composer.submit(text)}}, text));
  return make('section', {class: 'welcome', hidden: true}, make('h2', {}, words.welcome), make('p', {}, words.welcome_detail), make('div', {class: 'examples'}, ...prompts));
}

// ---- what is open

// The conversation that the address names.
function named() {
  return new URLSearchParams(location.search).get('c');
}

async function open(id, {fresh = false} = {}) {
  const answer = await ask('ui_open', {...(id ? {conversation: id} : {}), fresh});
  if (!answer.ok && id && answer.kind === 'UnknownConversation') {
    composer.showNotice(problem(answer));
    return open(null, {fresh: true});
  }
  if (!answer.ok) {
    composer.showNotice(problem(answer));
    return;                                               // the next look tries again
  }
  state.opened = true;
  takeStatus(answer.status);
  takePerson(answer.person);
  show(answer.conversation);
  conversation.takeMarks(answer.marks);
  if (answer.conversation) toBottom();
  if (matchMedia('(hover: hover)').matches) composer.focus();      // on a phone it would raise the keyboard
}

function show(opened) {
  state.conversation = opened ? opened.id : null;
  setAddress('replace');
  conversation.replace(opened ? opened.turns : []);
  refresh();
  drawer.refresh();
  if (conversation.writing()) follow();
}

function startNew() {
  if (state.conversation !== null) leave('push');
  composer.focus();
}

// Shows no conversation; `how`: whether going back leads to the one before.
function leave(how) {
  state.conversation = null;
  setAddress(how);
  conversation.replace([]);
  composer.hideNotice();
  refresh();
  drawer.refresh();
}

function resume(id) {
  if (id === state.conversation) return;
  state.conversation = id;
  setAddress('push');
  composer.hideNotice();
  open(id);
}

function deleted(id, ratings) {
  if (id === state.conversation) leave('replace');
  showToast(ratings ? say('deleted_ratings', {n: ratings}) : words.deleted);
}

function setAddress(how) {
  const url = new URL(location.href);
  if (url.searchParams.get('c') === state.conversation) return;
  if (state.conversation) url.searchParams.set('c', state.conversation); else url.searchParams.delete('c');
  history[`${how}State`](history.state, '', url);
}

// ---- consent and one's own data

function takePerson({contributes, erasure}) {
  consent.show(contributes);
  menu.show(contributes);
  erased.hidden = !erasure;
  if (erasure) setText(erased, erasureLine(erasure));
}

async function setContributes(contributes) {
  const answer = await ask('ui_consent', {contributes});
  if (!answer.ok) return composer.showNotice(problem(answer));
  takePerson(answer.person);
  announce(contributes ? words.consent_given : words.consent_refused);
  if (state.conversation) reopen(state.conversation);        // its replies now say whether they train
}

async function download() {
  const answer = await ask('ui_download');
  if (answer.ok) saveAsFile('my-data.json', answer.data); else menu.showTrouble(problem(answer));
}

async function deleteEverything() {
  const answer = await ask('ui_delete_everything');
  if (!answer.ok) return composer.showNotice(problem(answer));
  sessionStorage.clear();
  leave('replace');
  takePerson(answer.person);
  announce(erasureLine(answer.person.erasure));
}

// ---- messages and replies

async function send(text) {
  if (!state.opened) return {ok: false, kind: 'Network'};
  const to = state.conversation;
  const answer = await ask('ui_send', {...(to ? {conversation: to} : {}), text});
  if (answer.ok && state.conversation === to) takeTurn(answer, to ? 'replace' : 'push');
  return answer;
}

async function regenerate() {
  if (state.sending) return;
  state.sending = true;
  const answer = await ask('ui_regenerate', {conversation: state.conversation});
  state.sending = false;
  if (answer.ok) takeTurn(answer, 'replace'); else composer.showNotice(problem(answer));
}

function takeTurn(answer, how) {
  state.conversation = answer.conversation;
  setAddress(how);
  composer.hideNotice();
  conversation.put(answer.turn);
  refresh();
  drawer.refresh();
  toBottom();
  if (conversation.writing()) follow();
}

// Streams the reply that is being written. It is written on the server whether or not we listen.
function follow() {
  state.lastPart = Date.now();
  trigger('follow', {conversation: state.conversation, reply: conversation.writing().id});
}

function takePart(part) {
  if (!part || part.conversation !== state.conversation) return;
  state.lastPart = Date.now();
  const stuck = atBottom();
  conversation.update(part.reply);
  refresh();
  if (stuck) toBottom();
}

// ---- looking at the server

async function look() {
  if (!state.opened) return open(named());
  const askedAt = Date.now(), about = state.conversation;
  const answer = await ask('ui_look', about ? {conversation: about} : {});
  if (about !== state.conversation) return;
  setOffline(!answer.ok && answer.kind === 'Network');
  if (answer.kind === 'UnknownConversation') { leave('replace'); composer.showNotice(problem(answer)); }        // deleted in another tab
  if (!answer.ok) return;
  takeStatus(answer.status);
  if (!about) return;
  conversation.takeRatings(answer.ratings, askedAt);
  conversation.takeMarks(answer.marks, askedAt);
  const writing = conversation.writing(), known = conversation.replyIds();
  const stale = answer.replies.some(id => !known.includes(id)) || (writing && !answer.running && Date.now() - state.lastPart > LOOK_EVERY);
  if (stale && askedAt > state.lastPart) reopen(about);                     // another tab wrote here, or a stream was lost
  else if (writing && answer.running && Date.now() - state.lastPart > SILENCE) follow();
}

async function reopen(id) {
  const stuck = atBottom(), answer = await ask('ui_open', {conversation: id});
  if (!answer.ok || id !== state.conversation) return;
  show(answer.conversation);
  conversation.takeMarks(answer.marks);
  if (stuck) toBottom();
}

function takeStatus(status) {
  const before = state.status;
  state.status = status;
  setText(versionPill.children[1], status.base_model);
  setText(versionPill.children[2], versionName(status.version));
  versionPill.title = `${status.base_model}, ${versionName(status.version)}`;
  learning.hidden = status.run?.state !== 'running';
  setText(freshLine, say('fresh', {n: status.fresh_ratings}));
  conversation.setLive(status.version);
  if (before && before.version !== status.version) showToast(say('now_live', {version: versionName(status.version)}));
}

function setOffline(isOffline) {
  if (isOffline) composer.showNotice(words.offline);
  else if (state.offline) composer.hideNotice();
  state.offline = isOffline;
}

// ---- small things

function refresh() {
  const writing = conversation.writing() !== null;
  welcome.hidden = !state.opened || !conversation.isEmpty();
  composer.setWriting(writing);
  conversation.setBusy(writing);
}

function showToast(text) {
  setText(toast, text);
  toast.hidden = false;
  announce(text);
  clearTimeout(showToast.timer);
  showToast.timer = setTimeout(() => { toast.hidden = true; }, 8000);
}

function announce(text) { announcer.textContent = text; }

function atBottom() {
  return innerHeight + scrollY >= document.documentElement.scrollHeight - 120;
}

function toBottom() {
  requestAnimationFrame(() => scrollTo(0, document.documentElement.scrollHeight));
}
