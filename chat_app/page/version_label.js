// Who answered: the version's name, and behind it one sentence on what it learned from.

function createVersionLabel() {
  const label = make('button', {type: 'button', class: 'reply-version', 'aria-expanded': 'false', title: words.version_about, on: {click: toggle}});
  const about = make('p', {class: 'version-about muted', hidden: true});
  let version = null;

  async function toggle() {
    const opening = about.hidden;
    if (opening) {
      const answer = await ask('ui_version', {version});
      setText(about, answer.ok ? aboutVersion(version, answer.about) : problem(answer));
    }
    about.hidden = !opening;
    label.setAttribute('aria-expanded', opening);
  }

  return {
    node: make('div', {class: 'version-label'}, label, about),
    show(number) {
      version = number;
      setText(label, upperFirst(versionName(number)));
    },
  };
}

function aboutVersion(number, {note, replies, corrections, raters, scale}) {
  if (number === 0) return words.base_note;
  if (replies == null || raters == null) return note;
  const strength = scale < 1 ? ` ${say('version_strength', {percent: percent(scale)})}` : '';
  const corrected = corrections ? ` ${say('version_corrections', {n: corrections})}` : '';
  return say('version_learned', {replies, raters}) + corrected + strength;
}
