// Where a message is written. The draft leaves the field only when the server has taken it.

function createComposer({send, stop}) {
  const field = make('textarea', {rows: 1, 'aria-label': words.message, enterkeyhint: 'send', autocomplete: 'off', on: {input: onInput, keydown: onKey}});
  const sendButton = make('button', {type: 'submit', class: 'round send', 'aria-label': words.send, title: words.send}, icon('send'));
  const stopButton = make('button', {type: 'button', class: 'round stop', 'aria-label': words.stop, title: words.stop, hidden: true, on: {click: onStop}}, icon('stop'));
  const stopNote = make('span', {class: 'stopping-note', role: 'status'});
  const notice = make('p', {class: 'notice', role: 'alert', hidden: true});
  const form = make('form', {class: 'composer', on: {submit: onSubmit}}, field, stopNote, sendButton, stopButton);
  let sending = false, writing = null, stopping = false;
  let unanswered = JSON.parse(tabStore.get('unanswered') || 'null');           // the message that was sent last, with its key, until its answer comes

  function onInput() {
    fit();
    tabStore.set('draft', field.value);
    hideNotice();
    refresh();
  }

  // Enter sends, Shift+Enter starts a line; an Enter that chooses a candidate in an input method does neither.
  function onKey(event) {
    if (event.key !== 'Enter' || event.shiftKey || composing(event)) return;
    event.preventDefault();
    onSubmit(event);
  }

  async function onSubmit(event) {
    event.preventDefault();
    if (!sending && !writing && field.value.trim()) await submit(field.value);
  }

  async function submit(text) {
    if (sending) return;                                  // an example that is clicked twice
    sending = true;
    refresh();
    hideNotice();
    const answer = await send(text);
    sending = false;
    if (answer.ok) taken(text); else showNotice(problem(answer));
    refresh();
  }

  function taken(text) {
    setUnanswered(null);
    if (field.value === text) setDraft('');               // what was typed meanwhile stays
  }

  function setUnanswered(message) {
    unanswered = message;
    tabStore.set('unanswered', JSON.stringify(message));
  }

  // That it was heard shows at once: while the model reads a long prompt, a reply takes seconds to end.
  async function onStop() {
    if (stopping) return;
    setStopping(true);
    const answer = await stop();
    if (answer.ok) return;
    setStopping(false);
    showNotice(problem(answer));
  }

  function setStopping(isStopping) {
    stopping = isStopping;
    stopButton.classList.toggle('stopping', stopping);
    stopButton.setAttribute('aria-disabled', stopping);          // disabled, it would lose the focus
    setText(stopNote, stopping ? words.stop_heard : '');
  }

  function setDraft(text) {
    field.value = text;
    tabStore.set('draft', text);
    fit();
  }

  function fit() {
    field.style.height = 'auto';
    field.style.height = `${Math.min(field.scrollHeight, 220)}px`;
  }

  function refresh() {
    sendButton.disabled = sending || !field.value.trim();
    sendButton.hidden = writing !== null;
    stopButton.hidden = writing === null;
    form.classList.toggle('busy', sending || writing !== null);
  }

  function showNotice(text) { setText(notice, text); notice.hidden = false; }
  function hideNotice() { notice.hidden = true; }

  setDraft(tabStore.get('draft') || '');
  refresh();
  return {
    node: make('div', {class: 'composer-box'}, notice, form),
    submit, showNotice, hideNotice, fit,
    isEmpty: () => !field.value.trim(),
    // The key of this message to conversation `to`: the same until it is answered, so that the server knows it again when an answer was lost.
    keyOf(to, text) {
      if (unanswered?.to !== to || unanswered.text !== text) setUnanswered({to, text, key: randomKey()});
      return unanswered.key;
    },
    // A message that stands among these turns has come through, though its answer was lost.
    takeTurns(turns) {
      if (sending || !turns.some(turn => turn.draft && turn.draft === unanswered?.key)) return;
      taken(unanswered.text);
      hideNotice();
      refresh();
    },
    setPlaceholder(text) { field.placeholder = text; },
    focus() { field.focus({preventScroll: true}); },
    // `reply`: the id of the one that is being written, or null.
    setWriting(reply) {
      const hadFocus = document.activeElement === stopButton;
      if (reply !== writing) setStopping(false);
      writing = reply;
      refresh();
      if (hadFocus && !writing) field.focus({preventScroll: true});
    },
  };
}

// Unlike `crypto.randomUUID` it is there without https too.
function randomKey() {
  return [...crypto.getRandomValues(new Uint8Array(12))].map(byte => byte.toString(16).padStart(2, '0')).join('');
}
