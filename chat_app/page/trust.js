// Consent on first use, in one sentence; and what a person may do with their own data at any time.

// `told(person)`: what the server knows of them; `changed()`: their consent did; `gone()`: everything of theirs is deleted; `complain(sentence)`: something was refused;
// `refocus()` takes the focus, which the question had as it left.
function createTrust({told, changed, gone, announce, complain, refocus}) {
  const sent = make('p', {hidden: true}, words.consent_sent);
  const consent = make('section', {class: 'consent', hidden: true, 'aria-label': words.consent_title}, make('p', {}, words.consent), sent,
    make('div', {class: 'buttons'}, make('button', {type: 'button', class: 'quiet-button', on: {click: () => setContributes(false)}}, words.consent_no),
      make('button', {type: 'button', class: 'main-button', on: {click: () => setContributes(true)}}, words.consent_yes)));
  const erased = make('p', {class: 'erased', role: 'status', hidden: true});
  const menu = createMenu({setContributes, download, deleteEverything});

  function take(person) {
    const {contributes, sent_elsewhere, erasure} = person;
    const hadFocus = consent.contains(document.activeElement);
    consent.hidden = contributes !== null;
    if (hadFocus && consent.hidden) refocus();
    sent.hidden = !sent_elsewhere;
    menu.show(contributes);
    told(person);
    erased.hidden = !erasure;
    if (erasure) setText(erased, erasureLine(erasure));
  }

  // Another version answers now: it may be the first without what was deleted, or with what this person gave.
  async function refresh() {
    const answer = await ask('ui_consent');
    if (answer.ok) take(answer.person);
  }

  async function setContributes(contributes) {
    const answer = await ask('ui_consent', {contributes});
    if (!answer.ok) return complain(problem(answer));
    take(answer.person);
    announce(contributes ? words.consent_given : words.consent_refused);
    changed();
  }

  async function download() {
    const answer = await ask('ui_download');
    if (answer.ok) saveAsFile('my-data.json', answer.data); else menu.showTrouble(problem(answer));
  }

  async function deleteEverything() {
    const answer = await ask('ui_delete_everything');
    if (!answer.ok) return complain(problem(answer));
    tabStore.clear();
    gone();
    take(answer.person);
    announce(erasureLine(answer.person.erasure));
  }

  return {consent, erased, menu: menu.node, take, refresh};
}

// What became of a deletion of everything, as one sentence.
function erasureLine(erasure) {
  if (erasure.state === 'waiting') return words.erased_waiting;
  return erasure.version ? say('erased_since', {version: versionName(erasure.version)}) : words.erased;
}

function saveAsFile(name, data) {
  const address = URL.createObjectURL(new Blob([JSON.stringify(data, null, 2)], {type: 'application/json'}));
  make('a', {href: address, download: name}).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
