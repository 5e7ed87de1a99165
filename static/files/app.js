// What makes the pages nicer where scripts run. All of them work without it. Nothing here writes into a page what
// another one might have sent, and nothing is evaluated: the pages' Content-Security-Policy allows neither.
(() => {
  const root = document.documentElement;
  root.classList.add("js");

  // The theme changes at once, and is kept by the server like without a script.
  const chooseTheme = async (form, button) => {
    const data = button.dataset.themeIs;
    if (data) root.dataset.theme = data; else delete root.dataset.theme;
    for (const b of form.querySelectorAll("button")) b.setAttribute("aria-pressed", String(b === button));
    await fetch(form.action, { method: "POST", redirect: "manual", body: new URLSearchParams({ theme: button.value }) });
  };
  document.addEventListener("submit", (e) => {
    if (!e.target.matches("[data-themes]") || !e.submitter) return;
    e.preventDefault();
    chooseTheme(e.target, e.submitter).catch(() => {}); // the theme is on; it is only not kept
  });

  // A link that the server knows only the path of is as long as the browser's own address makes it.
  const whole = (text) => (text.startsWith("/") ? new URL(text, location.href).href : text);
  for (const field of document.querySelectorAll("input[data-link]")) field.value = whole(field.value);

  // Copy buttons.
  const copy = async (button) => {
    try {
      await navigator.clipboard.writeText(whole(button.dataset.copy));
    } catch {
      // Over plain http there is no clipboard: select the text beside the button for the hand to copy.
      const field = button.parentElement.querySelector("input");
      if (!field) return;
      field.select();
      if (!document.execCommand("copy")) return;
    }
    const before = button.textContent;
    button.textContent = button.dataset.copied;
    button.setAttribute("aria-live", "polite");
    setTimeout(() => { button.textContent = before; }, 2000);
  };
  document.addEventListener("click", (e) => {
    const button = e.target.closest("[data-copy]");
    if (button) copy(button);
  });

  // Menus close at Escape and at a click elsewhere.
  const close = (except) => {
    for (const menu of document.querySelectorAll("details[data-menu][open]")) if (!menu.contains(except)) menu.open = false;
  };
  document.addEventListener("click", (e) => close(e.target));
  document.addEventListener("keydown", (e) => {
    if (e.key !== "Escape") return;
    const menu = document.activeElement?.closest("details[data-menu][open]");
    close(null);
    menu?.querySelector("summary").focus();
  });

  // Someone who presses twice means once. The page that comes back from the cache begins anew.
  document.addEventListener("submit", (e) => {
    if (e.defaultPrevented || e.target.method !== "post") return;
    if (e.target.dataset.sent) { e.preventDefault(); return; }
    e.target.dataset.sent = "yes";
  });
  addEventListener("pageshow", () => { for (const form of document.forms) delete form.dataset.sent; });
})();
