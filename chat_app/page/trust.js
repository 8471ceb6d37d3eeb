// Consent on first use, in one sentence; and the receipt of a deletion.

function createConsent({answer}) {
  const node = make('section', {class: 'consent', hidden: true, 'aria-label': words.consent_title}, make('p', {}, words.consent),
    make('div', {class: 'buttons'}, make('button', {type: 'button', class: 'quiet-button', on: {click: () => answer(false)}}, words.consent_no),
      make('button', {type: 'button', class: 'main-button', on: {click: () => answer(true)}}, words.consent_yes)));
  return {node, show(contributes) { node.hidden = contributes !== null; }};
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
