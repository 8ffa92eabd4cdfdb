"use strict";
// Light or dark: the system's choice until the button decides. And buttons that copy a command.
(() => {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);

  function tell() {
    button.setAttribute("aria-pressed", isDark());
    root.dispatchEvent(new Event("themechange"));
  }

  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.theme = root.dataset.theme; } catch { /* for this page only, then */ }
    tell();
  });
  system.addEventListener("change", tell);
  tell();

  for (const copy of document.querySelectorAll("button.copy")) {
    copy.addEventListener("click", () => {
      const code = copy.parentElement.querySelector("code");
      getSelection().selectAllChildren(code);
      copy.textContent = document.execCommand("copy") ? "Copied" : "Selected";
    });
  }
})();
