// The chat page: its parts put together, what is open, what is sent.

// `asked` numbers questions about what is open, so that overtaken answers are told: `wanted` is the newest wish to see something else,
// `drawn` what the turns on the page are at least as new as. `visit` is another one whenever something else is shown.
const state = {conversation: null, task: null, visit: 0, asked: 0, wanted: 0, drawn: 0, fresh: false, sending: false, opened: false, opening: null, offline: false};

const conversation = createConversation({regenerate, announce, rated: () => opinion.want()});
const composer = createComposer({send, stop: () => ask('ui_stop', {conversation: state.conversation})});
const status = createStatus({wentLive: version => { showToast(say('now_live', {version: versionName(version)})); trust.refresh(); }});
const announcer = make('p', {class: 'sr', role: 'status'});
const toast = make('p', {class: 'toast', hidden: true});
const trust = createTrust({announce, refocus, complain: composer.showNotice, gone: () => { overtake(); leave('replace'); },
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

// Opens what the address names. Who asks while something is being opened waits for that.
function openFirst() {
  return state.opening ?? open(named(), {fresh: state.fresh});
}

// A conversation, the latest without an `id`, or none where that is to be `fresh`. It is open when the server has answered, and
// until then what was; `how` its address gets there.
function open(id, {fresh = false, how = 'replace'} = {}) {
  const opening = fetchAndShow(id, fresh, how).finally(() => { if (state.opening === opening) state.opening = null; });
  state.opening = opening;
  return opening;
}

async function fetchAndShow(id, fresh, how) {
  const mine = overtake(), askedAt = Date.now(), answer = await ask('ui_open', id ? {conversation: id} : {fresh});
  if (mine !== state.wanted) return state.opening;        // something else was asked for since, and counts
  if (!answer.ok) {
    composer.showNotice(problem(answer));
    if (id && answer.kind === 'UnknownConversation') return open(null, {fresh: true});
    if (state.opened) setAddress('replace');              // a step back has changed it already
    return;                                               // what was never opened the next look tries again
  }
  state.opened = true;
  takeStatus(answer.status);
  trust.take(answer.person);
  show(answer.conversation, mine, askedAt, how);
  conversation.takeMarks(answer.marks, askedAt);
  if (answer.conversation) toBottom();
  refocus();
}

// Whatever is on its way to be opened is not wanted any more. Returns the number of the wish that comes after it.
function overtake() {
  state.opening = null;
  return state.wanted = ++state.asked;
}

// A conversation, or none, as the server knew it when question `number` was asked: what was said here since `askedAt` is not repainted.
function show(opened, number, askedAt, how) {
  state.drawn = number;
  enter(opened ? opened.id : null, opened ? opened.task : null, how);
  conversation.replace(opened ? opened.turns : [], askedAt);
  if (opened) composer.takeTurns(opened.turns);
  refresh();
  drawer.refresh();
  if (conversation.writing()) lookout.follow();
}

// What messages go to from now on.
function enter(id, task, how) {
  if (id === null || id !== state.conversation) {
    state.visit++;
    opinion.leave();
  }
  [state.conversation, state.task] = [id, task];
  setAddress(how);
}

function startNew() {
  if (!state.opened) openNone();
  else if (state.conversation === null) stay();
  else { overtake(); leave('push'); }
  composer.focus();
}

// Also where the server has not said yet what there is.
function openNone() {
  state.fresh = true;
  setAddress('push');
  open(null, {fresh: true});
}

// With what is shown, though something else was asked for.
function stay() {
  overtake();
  setAddress('replace');
}

// Shows no conversation; `how`: whether going back leads to the one before.
function leave(how) {
  enter(null, null, how);
  welcome.reset();
  conversation.replace([]);
  composer.hideNotice();
  refresh();
  drawer.refresh();
}

function resume(id) {
  if (id === state.conversation) return stay();
  composer.hideNotice();
  open(id, {how: 'push'});
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
  const {conversation: to, visit} = state;
  opinion.leave();
  const after = conversation.lastShown();
  const answer = await ask('ui_send', {...(to ? {conversation: to} : {task: welcome.task()}), ...(after ? {after} : {}), text, draft: composer.keyOf(to, text)});
  if (answer.ok && state.visit === visit) takeTurn(answer, to ? 'replace' : 'push');
  else if (answer.ok) drawer.refresh();                   // one has left meanwhile
  return answer;
}

// Another attempt at the last message; `beside`: the reply to compare it with.
async function regenerate(beside) {
  if (state.sending) return;
  state.sending = true;
  const {visit} = state, answer = await ask('ui_regenerate', {conversation: state.conversation});
  state.sending = false;
  if (state.visit !== visit) return;
  if (answer.ok) takeTurn(answer, 'replace', beside); else composer.showNotice(problem(answer));
}

function takeTurn(answer, how, beside) {
  state.drawn = ++state.asked;
  enter(answer.conversation, answer.task, how);
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
  const number = ++state.asked, stuck = atBottom(), askedAt = Date.now(), answer = await ask('ui_open', {conversation: id});
  if (!answer.ok || id !== state.conversation) return;
  if (number < state.drawn) return reopen(id);            // a turn was added, or it was opened, since
  show(answer.conversation, number, askedAt, 'replace');
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
