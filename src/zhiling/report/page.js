(() => {
  // Reading needs none of this: it keeps the reader's place when the language is switched, and adds a light/dark button.
  const root = document.documentElement, langs = [...document.querySelectorAll("main")].map(main => main.id);
  root.classList.add("js");
  const show = lang => {
    const before = root.classList.contains("zh") ? "zh" : "en";
    const seen = [...document.querySelectorAll(`main.${before} [id]`)].filter(part => part.getBoundingClientRect().top < innerHeight / 2).pop();
    root.classList.remove(...langs);
    root.classList.add(lang);
    root.lang = document.querySelector(`main.${lang}`).lang;
    if (seen && before !== lang && scrollY > 0) document.getElementById(lang + seen.id.slice(before.length))?.scrollIntoView();
  };
  const named = () => langs.find(lang => location.hash === `#${lang}` || location.hash.startsWith(`#${lang}-`));
  if (named()) show(named());
  addEventListener("hashchange", () => { if (named()) { show(named()); document.getElementById(location.hash.slice(1))?.scrollIntoView(); } });
  for (const link of document.querySelectorAll(".switch a")) link.addEventListener("click", event => {
    event.preventDefault();
    show(link.hash.slice(1));
    history.replaceState(null, "", link.hash);
  });
  document.querySelector(".theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
})();
