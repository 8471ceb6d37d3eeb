// In a receipt: a reply as it was, and what the version of now says to the same prompt. It is written once for each
// live version, in the line like any reply, and kept; while it is written we look how far it is.

const LOOK_AGAIN = 700;               // ms between looks at a reply that is being written

function createThenAndNow(replyId) {
  const button = make('button', {type: 'button', class: 'quiet-button', on: {click: begin}}, icon('again'), make('span', {}, words.now_ask));
  const note = make('p', {class: 'muted', role: 'status'});
  const sides = [side(), side()];
  const pair = make('div', {class: 'pair', hidden: true}, ...sides.map(each => each.node));
  const node = make('div', {class: 'then-and-now'}, pair, note, button);
  let timer = null, askedLast = 0;

  function side() {
    const title = make('h3'), body = make('div', {class: 'reply-body'});
    return {node: make('div', {}, title, body), show(label, html, writing) {
      setText(title, label);
      patchHtml(body, html.trim() || writing ? html : `<p>${words.empty}</p>`);
      body.classList.toggle('writing', writing && html !== '');
    }};
  }

  async function begin() {
    button.disabled = true;
    setText(note, words.waiting);
    await look({begin: true});
    if (button.hidden) node.closest('.panel').focus({preventScroll: true});         // the pressed button went away
  }

  async function look(how = {}) {
    askedLast = Date.now();
    const answer = await ask('ui_say_again', {reply: replyId, ...how});
    if (answer.ok) return take(answer.beside);
    button.disabled = false;
    setText(note, problem(answer));
    if (button.hidden) lookLater();
  }

  function lookLater() {
    clearTimeout(timer);
    timer = setTimeout(() => { if (node.isConnected && !node.closest('[hidden]')) look(); }, LOOK_AGAIN);
  }

  // What the server told when it was asked at `askedAt`: the two replies, and how far the second one is.
  function take(beside, askedAt = Infinity) {
    if (askedAt < askedLast) return;
    const writing = beside.state === 'streaming', shown = writing || beside.state === 'done';
    pair.hidden = !shown;
    if (shown) {
      sides[0].show(say('now_then', {version: versionName(beside.then.version)}), beside.then.html, false);
      sides[1].show(say('now_now', {version: versionName(beside.now.version)}), beside.now.html, writing);
    }
    button.hidden = shown || !beside.newer;
    button.disabled = false;
    setText(note, sentence(beside));
    if (writing) lookLater();
  }

  function sentence({state, newer, live, place, same}) {
    if (state === 'streaming') return place ? say('in_line', {n: place}) : words.waiting;
    if (state === 'done') return same ? words.now_same : words.now_how;
    if (state === 'failed') return words.broke;
    return newer ? '' : say('now_none', {version: versionName(live)});
  }

  return {node, take};
}
