// What a reply should have been: its text, edited in place and kept beside it. A half-written edit is the person's own.

function createCorrection(replyId) {
  const draftKey = `edit-${replyId}`;
  const field = make('textarea', {rows: 5, maxlength: 20000, 'aria-label': words.correct_field, on: {input: onInput, keydown: onKey}});
  const note = make('span', {class: 'panel-note', role: 'status'});
  const editor = make('div', {class: 'panel correction-editor', role: 'group', 'aria-label': words.correct, hidden: true},
    make('p', {class: 'panel-title'}, words.correct_hint), field,
    make('div', {class: 'panel-end'}, note, make('button', {type: 'button', class: 'quiet-button', on: {click: cancel}}, words.cancel),
      make('button', {type: 'button', class: 'main-button', on: {click: save}}, words.correct_save)));
  const text = make('p', {class: 'correction-text'});
  const shown = make('details', {class: 'correction', hidden: true}, make('summary', {}, words.corrected), text);
  const button = iconButton('pencil', words.correct, () => editor.hidden ? open() : cancel(), {class: 'icon-button correct', 'aria-expanded': 'false'});
  const saves = createSaves('ui_correct');
  let confirmed = '', original = '';

  function onInput() { tabStore.set(draftKey, field.value); }

  function onKey(event) {
    if (composing(event)) return;
    if (event.key === 'Escape') cancel();
    else if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) { event.preventDefault(); save(); }
  }

  function open() {
    field.value = tabStore.get(draftKey) ?? (confirmed || original);
    setText(note, '');
    show(true);
    field.style.height = `${Math.min(field.scrollHeight + 4, 360)}px`;
    editor.scrollIntoView({block: 'nearest'});
    field.focus();
  }

  function show(isOpen) {
    editor.hidden = !isOpen;
    button.setAttribute('aria-expanded', isOpen);
  }

  function cancel() {
    tabStore.remove(draftKey);
    show(false);
    button.focus();
  }

  function save() {
    const said = field.value;
    setText(note, words.saving);
    saves.save({reply: replyId, text: said}, (answer, isLast) => {
      if (isLast) noteSaved(note, answer, '');
      if (!answer.ok) return;
      paint(answer.correction);
      if (field.value === said) cancel();
    });
  }

  function paint(correction) {
    confirmed = correction;
    setText(text, correction);
    shown.hidden = !correction;
  }

  return {
    button, editor, shown,
    // The model's own text, where an edit begins; a half-written one from before is opened again.
    setOriginal(plain) {
      if (original || !plain) return;
      original = plain;
      if (tabStore.get(draftKey) !== null) open();
    },
    take(correction, askedAt) {
      if (saves.isNews(askedAt)) paint(correction || '');
    },
  };
}
