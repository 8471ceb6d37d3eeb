// The chat page: its parts put together, what is open, what is sent.

const state = {conversation: null, task: null, sending: false, opened: false, opening: null, offline: false};

const conversation = createConversation({regenerate, announce, rated: () => opinion.want()});
const composer = createComposer({send, stop: () => ask('ui_stop', {conversation: state.conversation})});
const status = createStatus({wentLive: version => { showToast(say('now_live', {version: versionName(version)})); trust.refresh(); }});
const announcer = make('p', {class: 'sr', role: 'status'});
const toast = make('p', {class: 'toast', hidden: true});
const trust = createTrust({announce, refocus, complain: composer.showNotice, gone: () => leave('replace'),
  told: ({contributes, opinions}) => { welcome.setContributes(contributes); status.setContributes(contributes); opinion.setUsed(opinions); },
  changed: () => state.conversation && reopen(state.conversation)});           // its replies now say whether they train
const task = make('h2', {class: 'task', hidden: true});
const drawer = createHistory({resume, deleted, isShown: id => id === state.conversation});
const opinion = createOpinion({isQuiet, appear, announce, refocus});
const welcome = createWelcome({begin: text => composer.submit(text), changed: refresh, foot: [opinion.used, trust.erased]});
const lookout = createLookout({conversation, shown: () => state.conversation, isOpened: () => state.opened, openAgain: openFirst, looked, grew, outdated: reopen});

build();
openFirst();
window.addEventListener('popstate', () => { const id = named(); open(id, {fresh: !id}); });

function build() {
  const brand = make('a', {class: 'brand', href: './', 'aria-label': words.home}, make('span', {class: 'mark', 'aria-hidden': 'true'}, icon('star')), make('h1', {}, words.product));
  const fresh = make('button', {type: 'button', class: 'quiet-button new', 'aria-label': words.new, title: words.new, on: {click: startNew}}, icon('plus'), make('span', {}, words.new));
  const print = make('p', {class: 'fine-print'}, status.line, make('span', {}, ` ${words.mistakes} `), make('a', {href: 'maintainer'}, words.maintainer));
  element.replaceChildren(
    make('header', {class: 'topbar'}, drawer.button, brand, status.pill, status.learning, make('span', {class: 'spacer'}), fresh, trust.menu),
    make('div', {class: 'column'}, welcome.node, task, conversation.log, opinion.node),
    make('div', {class: 'dock'}, toast, trust.consent, composer.node, print),
    drawer.scrim, drawer.drawer, announcer);
  welcome.begins();
  composer.fit();
}

// ---- what is open

// The conversation that the address names.
function named() {
  return new URLSearchParams(location.search).get('c');
}

// Opens what the address names. Who asks while that is on its way waits for the same answer.
function openFirst() {
  state.opening ??= open(named()).finally(() => { state.opening = null; });
  return state.opening;
}

async function open(id, {fresh = false} = {}) {
  const askedAt = Date.now(), answer = await ask('ui_open', {...(id ? {conversation: id} : {}), fresh});
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
  trust.take(answer.person);
  show(answer.conversation, askedAt);
  conversation.takeMarks(answer.marks, askedAt);
  if (answer.conversation) toBottom();
  refocus();
}

// A conversation, or none, as the server knew it `askedAt`: what was said here since is not repainted.
function show(opened, askedAt) {
  state.conversation = opened ? opened.id : null;
  state.task = opened ? opened.task : null;
  setAddress('replace');
  conversation.replace(opened ? opened.turns : [], askedAt);
  refresh();
  drawer.refresh();
  if (conversation.writing()) lookout.follow();
}

function startNew() {
  if (state.conversation !== null) leave('push');
  composer.focus();
}

// Shows no conversation; `how`: whether going back leads to the one before.
function leave(how) {
  opinion.leave();
  state.conversation = state.task = null;
  welcome.reset();
  setAddress(how);
  conversation.replace([]);
  composer.hideNotice();
  refresh();
  drawer.refresh();
}

function resume(id) {
  if (id === state.conversation) return;
  opinion.leave();
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

// ---- messages and replies

async function send(text) {
  if (!state.opened) await openFirst();                   // written faster than the server said what is open
  if (!state.opened) return {ok: false, kind: 'Network'};
  const to = state.conversation;
  opinion.leave();
  const after = conversation.lastShown();
  const answer = await ask('ui_send', {...(to ? {conversation: to} : {task: welcome.task()}), ...(after ? {after} : {}), text});
  if (answer.ok && state.conversation === to) takeTurn(answer, to ? 'replace' : 'push');
  return answer;
}

// Another attempt at the last message; `beside`: the reply to compare it with.
async function regenerate(beside) {
  if (state.sending) return;
  state.sending = true;
  const answer = await ask('ui_regenerate', {conversation: state.conversation});
  state.sending = false;
  if (answer.ok) takeTurn(answer, 'replace', beside); else composer.showNotice(problem(answer));
}

function takeTurn(answer, how, beside) {
  state.conversation = answer.conversation;
  state.task = answer.task;
  setAddress(how);
  composer.hideNotice();
  conversation.put(answer.turn, beside);
  refresh();
  drawer.refresh();
  toBottom();
  if (conversation.writing()) lookout.follow();
}

// A newer state of the reply that is being written.
function grew(reply) {
  const stuck = atBottom();
  conversation.update(reply);
  refresh();
  if (stuck) toBottom();
}

// ---- what the server says

// A look at the server about the conversation `about` (or none), as of `askedAt`.
function looked(answer, about, askedAt) {
  setOffline(!answer.ok && answer.kind === 'Network');
  if (answer.kind === 'UnknownConversation') { leave('replace'); composer.showNotice(problem(answer)); }        // deleted in another tab
  if (!answer.ok) return;
  takeStatus(answer.status);
  if (!about) return;
  conversation.takeRatings(answer.ratings, askedAt);
  conversation.takeMarks(answer.marks, askedAt);
  opinion.look();
}

async function reopen(id) {
  const stuck = atBottom(), askedAt = Date.now(), answer = await ask('ui_open', {conversation: id});
  if (!answer.ok || id !== state.conversation) return;
  show(answer.conversation, askedAt);
  conversation.takeMarks(answer.marks, askedAt);
  if (stuck) toBottom();
}

function takeStatus(now) {
  status.take(now);
  conversation.setLive(now.version);
}

function setOffline(isOffline) {
  if (isOffline) composer.showNotice(words.offline);
  else if (state.offline) composer.hideNotice();
  state.offline = isOffline;
}

// ---- small things

function refresh() {
  const writing = conversation.writing();
  welcome.node.hidden = !state.opened || !conversation.isEmpty();
  task.hidden = state.task === null;
  task.classList.toggle('sr', state.task === TASK_NAMES[0]);            // what it is unless one says otherwise goes without saying
  setText(task, words.tasks[state.task]?.name ?? '');
  composer.setPlaceholder(words.tasks[state.task === null ? welcome.task() : TASK_NAMES[0]].placeholder);       // what to begin with
  composer.setWriting(writing ? writing.id : null);
  conversation.setBusy(writing !== null);
}

function showToast(text) {
  setText(toast, text);
  toast.hidden = false;
  announce(text);
  clearTimeout(showToast.timer);
  showToast.timer = setTimeout(() => { toast.hidden = true; }, 8000);
}

// Where the focus belongs while nothing else asks for it. On a phone it would raise the keyboard.
function refocus() {
  if (matchMedia('(hover: hover)').matches) composer.focus();
}

function announce(text) { announcer.textContent = text; }

// Nobody writes, neither here nor the model, and nothing is open that waits for an answer.
function isQuiet() {
  return conversation.writing() === null && composer.isEmpty() && !conversation.log.querySelector('.panel:not([hidden]), .compare');
}

function appear(show) {
  const stuck = atBottom();
  show();
  if (stuck) toBottom();
}

function atBottom() {
  return innerHeight + scrollY >= document.documentElement.scrollHeight - 120;
}

function toBottom() {
  requestAnimationFrame(() => scrollTo(0, document.documentElement.scrollHeight));
}
