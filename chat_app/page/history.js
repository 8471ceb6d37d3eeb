// The drawer with one's own conversations: open, search, rename, delete. On a wide screen it stands beside the chat,
// on a narrow one over it.

const PAGE = 50;                      // conversations that are listed before one asks for more

function createHistory({resume, deleted, isShown}) {
  const search = make('input', {type: 'search', class: 'history-search', 'aria-label': words.history_search, placeholder: words.history_search, on: {input: onSearch}});
  const list = make('ul', {class: 'history-list'});
  const none = make('p', {class: 'muted', hidden: true, role: 'status'});
  const close = iconButton('close', words.close, () => toggle(false));
  const more = make('button', {type: 'button', class: 'quiet-button history-more', hidden: true, on: {click: showMore}}, words.history_more);
  const drawer = make('aside', {id: 'history', class: 'drawer', 'aria-label': words.history, hidden: true, on: {keydown: event => event.key === 'Escape' && !composing(event) && !editing && toggle(false)}},
    make('div', {class: 'drawer-head'}, make('h2', {}, words.history), close), search, list, more, none);
  const scrim = make('div', {class: 'scrim', hidden: true, on: {click: () => toggle(false)}});
  const button = iconButton('list', words.history, () => toggle(drawer.hidden), {class: 'icon-button', 'aria-expanded': 'false', 'aria-controls': 'history'});
  let entries = [], editing = null, timer = null, limit = PAGE, hasMore = false;

  function isNarrow() { return matchMedia('(max-width: 1100px)').matches; }

  function toggle(isOpen) {
    drawer.hidden = !isOpen;
    scrim.hidden = !isOpen;
    button.setAttribute('aria-expanded', isOpen);
    element.closest('#chat').classList.toggle('with-history', isOpen);
    if (!isOpen) return button.focus();
    editing = null;
    refresh();
    focusHead();
  }

  // Not the search on a phone: it would raise the keyboard.
  function focusHead() {
    if (matchMedia('(hover: hover)').matches) search.focus(); else close.focus();
  }

  function onSearch() {
    clearTimeout(timer);
    limit = PAGE;
    timer = setTimeout(refresh, 200);
  }

  // `trouble`: why something was refused, which the list says when it is drawn anew.
  async function refresh(trouble = '') {
    if (drawer.hidden || editing) return;
    const wanted = search.value, answer = await ask('ui_history', {search: wanted, limit});
    if (wanted !== search.value || editing) return;
    if (answer.ok) [entries, hasMore] = [answer.entries, answer.more];
    paint(answer.ok ? trouble : problem(answer));
  }

  // The first of those that were not listed before takes the focus.
  async function showMore() {
    const shown = entries.length;
    limit = shown + PAGE;
    await refresh();
    list.children[shown]?.querySelector('button').focus();
  }

  function paint(trouble = '') {
    const rows = entries.map(entry => editing?.id === entry.id ? editing.row(entry) : row(entry));
    if (replaceRows(list, rows, 'conversation')) focusHead();
    more.hidden = !hasMore;
    none.hidden = entries.length > 0 && !trouble;
    setText(none, trouble || (search.value.trim() ? words.history_not_found : words.history_none));
    list.querySelector('.focus-me')?.focus();
  }

  function row(entry) {
    const title = entry.title || words.history_untitled, current = isShown(entry.id);
    const open = make('button', {type: 'button', class: 'history-open', 'aria-current': current ? 'true' : null, on: {click: () => choose(entry.id)}},
      make('span', {class: 'history-title'}, title), make('span', {class: 'muted'}, [shortDay(entry.changed_at), entry.task === TASK_NAMES[0] ? '' : words.tasks[entry.task]?.name].filter(Boolean).join(' · ')));
    return make('li', {class: 'history-row', 'data-conversation': entry.id}, open,
      iconButton('pencil', `${words.rename}: ${title}`, () => edit(entry, renameRow)), iconButton('bin', `${words.remove}: ${title}`, () => edit(entry, deleteRow)));
  }

  function edit(entry, build) {
    editing = {id: entry.id, row: build};
    paint();
  }

  function stopEditing(trouble) {
    editing = null;
    paint(trouble);
    refresh(trouble);
  }

  function choose(id) {
    if (isNarrow()) toggle(false);
    resume(id);
  }

  function renameRow(entry) {
    const field = make('input', {class: 'history-search focus-me', value: entry.title, maxlength: 80, 'aria-label': words.rename, on: {keydown: onKey}});
    let cancelled = false;
    function onKey(event) {
      if (event.key !== 'Escape' || composing(event)) return;
      event.stopPropagation();
      cancelled = true;
      stopEditing();
    }
    async function save(event) {
      event.preventDefault();
      if (cancelled || editing === null) return;
      const answer = await ask('ui_rename', {conversation: entry.id, title: field.value});
      if (answer.ok) entry.title = answer.title;
      stopEditing(answer.ok ? '' : problem(answer));
    }
    return make('li', {class: 'history-row editing', 'data-conversation': entry.id}, make('form', {on: {submit: save}}, field, make('button', {class: 'quiet-button'}, words.done)));
  }

  function deleteRow(entry) {
    async function remove() {
      const answer = await ask('ui_delete', {conversation: entry.id});
      if (answer.ok) entries = entries.filter(each => each !== entry);
      stopEditing(answer.ok ? '' : problem(answer));
      if (answer.ok) deleted(entry.id, answer.ratings);
    }
    return make('li', {class: 'history-row editing', 'data-conversation': entry.id, role: 'group', 'aria-label': words.remove}, make('p', {}, say('remove_sure', {title: entry.title || words.history_untitled})),
      make('div', {class: 'buttons'}, make('button', {type: 'button', class: 'quiet-button focus-me', on: {click: () => stopEditing()}}, words.keep),
        make('button', {type: 'button', class: 'danger-button', on: {click: remove}}, words.remove)));
  }

  return {button, drawer, scrim, refresh};
}

function shortDay(iso) {
  const when = new Date(iso), today = when.toDateString() === new Date().toDateString();
  return new Intl.DateTimeFormat(language, today ? {timeStyle: 'short'} : {dateStyle: 'medium'}).format(when);
}
