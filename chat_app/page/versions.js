// The list of versions: what each was trained on, which one answers, which one is on its way, and the two ways to change that.

function createVersions({makeLive, rollBack}) {
  const title = make('h2', {id: 'versions-title', tabindex: '-1'}, words.versions);
  const list = make('ul', {class: 'version-list'});
  const change = make('p', {class: 'change', role: 'status', hidden: true});
  const none = make('p', {class: 'muted'}, words.no_versions);
  const back = make('button', {type: 'button', class: 'quiet-button', on: {click: rollBack}}, words.roll_back);

  function row(version, overview) {
    const live = version.number === overview.serving, coming = version.number === overview.change?.version;
    const marks = [
      live ? make('span', {class: 'mark-live'}, words.live) : null,
      coming ? make('span', {class: 'mark-loaded'}, words.loading) : null,
      !live && !coming && overview.loaded.includes(version.number) ? make('span', {class: 'mark-loaded'}, words.loaded) : null,
      version.error ? make('span', {class: 'mark-error'}, words.could_not_load) : null,
      version.removed ? make('span', {class: 'mark-removed'}, words.files_removed) : null,
    ];
    const lines = [make('p', {class: 'version-title'}, make('strong', {}, upperFirst(versionName(version.number))), ...marks),
      make('p', {class: 'muted'}, [version.said && tell(version.said) || version.note, shortTime(version.created_at)].filter(Boolean).join(' · '))];
    if (version.error) lines.push(toldLine({said: version.error_said, reason: version.error}, {class: 'problem'}));
    const label = `${words.make_live}: ${versionName(version.number)}`;
    const button = version.number === overview.live || version.removed ? null : make('button', {type: 'button', class: 'quiet-button', 'aria-label': label, on: {click: () => makeLive(version.number)}}, words.make_live);
    return make('li', {'data-version': version.number}, make('div', {}, ...lines), button);
  }

  // Building a version takes the engine up to half a minute, and one that cannot be built leaves the one before in place.
  function showChange({change: coming, promotions, versions, serving}) {
    const newest = versions.find(version => version.number === promotions[0]?.version), failed = !coming && newest?.error;
    change.hidden = !coming && !failed;
    change.classList.toggle('problem', Boolean(failed || coming?.trouble));
    if (coming) {
      const names = {version: versionName(coming.version), other: versionName(serving), time: duration(coming.seconds)};
      setText(change, (coming.version === serving ? say('loading_again', names) : say('loading_version', names)) + (coming.trouble ? ` ${problem(coming.trouble)}` : ''));
    } else if (failed) setText(change, say('not_loaded', {version: versionName(newest.number), other: versionName(serving)}));
  }

  return {
    node: make('section', {class: 'card', 'aria-labelledby': 'versions-title'},
      make('div', {class: 'card-head'}, title, back), change, list, none),
    show(overview) {
      showChange(overview);
      const rows = [...overview.versions, {number: 0, note: words.base_note, created_at: null, error: null}];
      const key = JSON.stringify([rows, overview.live, overview.serving, overview.loaded, overview.change?.version]);
      const hadFocus = document.activeElement === back;
      back.hidden = overview.live === 0;
      if (hadFocus && back.hidden) title.focus({preventScroll: true});
      if (list.shownKey === key) return;                 // an unchanged list keeps its nodes, so a focused button stays
      list.shownKey = key;
      if (replaceRows(list, rows.map(version => row(version, overview)), 'version')) title.focus({preventScroll: true});        // the version that was made live has no button
      none.hidden = overview.versions.length > 0;
    },
  };
}

// The time, with the date unless it is today.
function shortTime(iso) {
  if (!iso) return '';
  const when = new Date(iso), today = when.toDateString() === new Date().toDateString();
  return new Intl.DateTimeFormat(language, today ? {timeStyle: 'short'} : {dateStyle: 'medium', timeStyle: 'short'}).format(when);
}
