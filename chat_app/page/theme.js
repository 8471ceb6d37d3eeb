// Light, dark, or as the system has it. Gradio shows dark by a class on the body; a choice made here outlives reloads.

const systemDark = matchMedia('(prefers-color-scheme: dark)');
systemDark.addEventListener('change', applyTheme);
applyTheme();

function chosenTheme() {
  const theme = browserStore.get('theme');
  return ['light', 'dark'].includes(theme) ? theme : 'system';
}

function applyTheme() {
  const theme = chosenTheme();
  document.body.classList.toggle('dark', theme === 'system' ? systemDark.matches : theme === 'dark');
}

function chooseTheme(theme) {
  browserStore.set('theme', theme);
  applyTheme();
}

// The page is drawn anew in the other language; a draft survives that.
function chooseLanguage(code) {
  browserStore.set('language', code);
  const url = new URL(location.href);
  url.searchParams.delete('lang');
  location.replace(url);
}
