// The lists below a job are not in its live frames. They are asked for again when the job has news that they show too:
// at most every three seconds, and not by all who watch at the same moment.
(() => {
  const news = () => document.getElementById("job")?.dataset.news;
  let known = news(), timer = 0, asked = -Infinity;
  if (known === undefined) return;
  const ask = () => {
    timer = 0;
    asked = performance.now();
    for (const list of document.querySelectorAll("[data-follows-job]")) list.dispatchEvent(new Event("news"));
  };
  new MutationObserver(() => {
    const now = news();
    if (now === undefined || now === known) return;
    known = now;
    const ended = !/^(queued|running|stalled) /.test(now);
    if (ended) clearTimeout(timer);
    else if (timer) return;
    const rest = ended ? 0 : asked + 3000 - performance.now();
    timer = setTimeout(ask, Math.max(rest, 200) + 1000 * Math.random());
  }).observe(document.body, { subtree: true, childList: true, attributeFilter: ["data-news"] });
})();

// What was found before somebody chose otherwise is true of another clone.
document.addEventListener("change", (e) => {
  if (!e.target.closest("#clone-form")) return;
  document.querySelector('[hx-target="#clone-check"]')?.dispatchEvent(new Event("htmx:abort"));
  document.querySelector("#clone-check > .answer")?.remove();
});
