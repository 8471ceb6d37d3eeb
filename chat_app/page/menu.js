// The menu in the header: what is needed once in a while.

function createMenu({setContributes, download, deleteEverything}) {
  const contributes = make('button', {type: 'button', class: 'menu-item', role: 'switch', 'aria-checked': 'false', on: {click: () => setContributes(contributes.getAttribute('aria-checked') !== 'true')}},
    make('span', {}, words.contribute), make('i', {class: 'switch', 'aria-hidden': 'true'}));
  const sure = make('div', {class: 'menu-sure', hidden: true, role: 'group', 'aria-label': words.delete_all}, make('p', {}, words.delete_all_sure),
    make('div', {class: 'buttons'}, make('button', {type: 'button', class: 'quiet-button', on: {click: () => { sure.hidden = true; remove.focus(); }}}, words.keep),
      make('button', {type: 'button', class: 'danger-button', on: {click: () => { toggle(false); button.focus(); deleteEverything(); }}}, words.delete_all_yes)));
  const remove = item(words.delete_all, () => { sure.hidden = false; sure.querySelector('button').focus(); });
  const trouble = make('p', {class: 'menu-note problem', role: 'alert', hidden: true});
  const panel = make('div', {id: 'menu', class: 'menu', hidden: true, role: 'group', 'aria-label': words.menu},
    contributes, make('p', {class: 'menu-note'}, words.contribute_detail), make('hr'), item(words.download, download), remove, sure, trouble);
  const themes = choice(words.theme, [['system', words.theme_system], ['light', words.theme_light], ['dark', words.theme_dark]], chosenTheme(), chooseTheme);
  const languages = choice(words.language, [['en', 'English', 'en'], ['zh', '中文', 'zh-CN']], language, chooseLanguage);
  panel.prepend(themes, languages, make('hr'));
  const button = iconButton('dots', words.menu, () => toggle(panel.hidden), {class: 'icon-button', 'aria-expanded': 'false', 'aria-controls': 'menu'});
  const node = make('div', {class: 'menu-box', on: {keydown: event => { if (event.key === 'Escape' && !panel.hidden) { toggle(false); button.focus(); } }}}, button, panel);
  document.addEventListener('click', event => { if (!node.contains(event.target)) toggle(false); });

  function item(text, onClick) {
    return make('button', {type: 'button', class: 'menu-item', on: {click: onClick}}, make('span', {}, text));
  }

  // A row of which one is chosen.
  function choice(label, options, chosen, choose) {
    const buttons = options.map(([value, text, lang]) => make('button', {type: 'button', lang, 'aria-pressed': String(value === chosen), on: {click: () => {
      buttons.forEach((each, i) => each.setAttribute('aria-pressed', options[i][0] === value));
      choose(value);
    }}}, text));
    return make('div', {class: 'choice', role: 'group', 'aria-label': label}, make('span', {'aria-hidden': 'true'}, label), make('div', {class: 'choice-row'}, ...buttons));
  }

  function toggle(isOpen) {
    panel.hidden = !isOpen;
    sure.hidden = true;
    trouble.hidden = true;
    button.setAttribute('aria-expanded', isOpen);
  }

  return {
    node,
    show(doesContribute) { contributes.setAttribute('aria-checked', doesContribute === true); },
    showTrouble(text) { setText(trouble, text); trouble.hidden = false; },
  };
}
