// Who answered: the version's name, and behind it what it learned from and what that changed.

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

function aboutVersion(number, {note, replies, corrections, raters, scale, changed}) {
  if (number === 0) return words.base_note;
  const known = replies != null && raters != null;
  return together(known ? say('version_learned', {n: replies, raters}) : note,
    known && corrections ? say('version_corrections', {n: corrections}) : '',
    known && changed.comparisons ? say('version_comparisons', {n: changed.comparisons}) : '',
    known && scale < 1 ? say('version_strength', {percent: percent(scale)}) : '', whatChanged(changed));
}

// How many of what it learned from became likelier or less likely, against the base model; '' where nothing is known of that.
function whatChanged({liked, likelier, disliked, less_likely, corrected, corrected_likelier}) {
  const parts = [liked ? say('changed_liked', {n: liked, of: likelier}) : '', disliked ? say('changed_disliked', {n: disliked, of: less_likely}) : '',
    corrected ? say('changed_corrected', {n: corrected, of: corrected_likelier}) : ''].filter(Boolean);
  return parts.length ? say('version_changed', {changes: listed(parts)}) : '';
}
