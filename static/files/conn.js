// Keeps the page's streams (elements with hx-sse:connect) open, and tells when one is not: html[data-conn] is ok, stale
// (the server cannot read what it shows), lost, signedout or gone. The banner is shown by that alone. It mends what
// hx-sse of htmx 4.0.1 leaves open: it does not notice a connection that has gone silent, does not try a first
// connection again, never gives up on an answer that will not change, and connects tabs that nobody sees.
(() => {
  const root = document.documentElement;
  const time = (name, usual) => Number(root.dataset[name] || usual); // tests are in a hurry
  const SILENCE = time("connSilence", 25000); // more than two pings
  const CHECK = time("connCheck", 1000);
  const DOUBT = time("connDoubt", 700); // an attempt that takes longer is a lost connection
  const STEADY = time("connSteady", 5000); // a stream that lived so long may be opened again at once
  const SLOWEST = 5000; // between attempts; hx-config of the element says the same
  const WORST = ["ok", "stale", "lost", "gone", "signedout"];
  const FINAL = [401, 403, 404, 410];

  const isStream = (el) => el instanceof Element && el.hasAttribute("hx-sse:connect");
  const known = new WeakMap();
  const stream = (el) => {
    if (!known.has(el)) known.set(el, { state: "", heard: 0, since: 0, fruitless: 0, failures: 0 });
    return known.get(el);
  };
  const streams = () => document.querySelectorAll("[hx-sse\\:connect]");
  const connection = (el) => el._htmx?.sse;

  const tell = (el, state) => {
    stream(el).state = state;
    const all = [...streams()].map((el) => stream(el).state);
    const worst = WORST.findLast((state) => all.includes(state));
    if (worst) root.dataset.conn = worst;
  };
  const lost = (el) => {
    const s = stream(el);
    clearTimeout(s.doubt);
    if (!document.hidden && !s.final && !s.done) tell(el, "lost");
  };
  const doubt = (el) => {
    const s = stream(el);
    clearTimeout(s.doubt);
    s.doubt = setTimeout(() => lost(el), DOUBT);
  };
  const end = (el, status) => {
    const s = stream(el);
    s.final = status;
    clearTimeout(s.doubt);
    tell(el, status === 401 ? "signedout" : "gone");
  };

  // connect opens a stream now that is not open.
  const connect = (el) => {
    const s = stream(el), c = connection(el);
    if (s.final || s.done || document.hidden) return;
    clearTimeout(s.retry);
    if (!c) {
      htmx.trigger(el, "sse-retry");
    } else if (c.delayCanceller) {
      c.delayCanceller();
    } else {
      s.atOnce = true; // when the one that is open has ended
      c.reader?.cancel();
    }
  };

  // The first connection is a request of htmx, the others repeat it.
  document.addEventListener("htmx:config:request", (e) => {
    if (!isStream(e.target)) return;
    if (document.hidden) { // until the tab comes to the front
      stream(e.target).unseen = true;
      return e.preventDefault();
    }
    const request = e.detail.ctx.request;
    request.headers.Accept = "text/event-stream"; // so that an error is no page
    request.redirect = "error"; // nor a page to sign in on
    request.cache = "no-store"; // browsers keep a 404 or a 410
  });
  document.addEventListener("htmx:finally:request", (e) => {
    const el = e.target;
    if (!isStream(el) || connection(el)) return;
    const s = stream(el), status = e.detail.ctx.response?.status;
    if (s.done || s.final) return;
    if (FINAL.includes(status)) return end(el, status);
    lost(el);
    const delay = Math.min(SLOWEST, 500 * 2 ** s.failures++);
    clearTimeout(s.retry);
    s.retry = setTimeout(connect, delay * (.7 + .6 * Math.random()), el);
  });

  // Before each attempt, and before the delay that precedes all but the first.
  document.addEventListener("htmx:sse:before:connection", (e) => {
    const el = e.target, s = stream(el), c = e.detail.connection;
    if (document.hidden) s.unseen = true; // since before hx-sse looked
    if (s.final || s.done || document.hidden) return e.preventDefault(); // ends the attempts
    if (c.attempt === 0) return;
    const steady = s.fruitless === 0 && Date.now() - s.since > STEADY; // the server has stopped, or the stream was old
    if (s.atOnce || steady) {
      s.atOnce = false;
      s.since = Date.now();
      doubt(el);
      queueMicrotask(() => c.delayCanceller?.());
    } else {
      lost(el);
    }
  });
  document.addEventListener("htmx:sse:after:connection", (e) => {
    const s = stream(e.target), c = e.detail.connection;
    s.since = s.heard = Date.now();
    // Only a message is a success: whatever else answers, such as a proxy, is asked less and less often.
    const failures = s.fruitless++;
    queueMicrotask(() => {
      c.attempt = failures;
      if (document.hidden) c.reader?.cancel(); // hidden while it was being opened
    });
  });
  document.addEventListener("htmx:sse:before:message", (e) => {
    const s = stream(e.target), { event, data } = e.detail.message;
    clearTimeout(s.doubt);
    s.heard = Date.now();
    s.fruitless = s.failures = e.detail.connection.attempt = 0;
    tell(e.target, event === "ping" && data === "stale" ? "stale" : "ok");
  });
  document.addEventListener("htmx:sse:error", (e) => {
    if (FINAL.includes(e.detail.status)) end(e.target, e.detail.status); else lost(e.target);
  });
  document.addEventListener("htmx:sse:close", (e) => {
    const s = stream(e.target);
    clearTimeout(s.doubt);
    if (e.detail.reason === "message") s.done = true; // all is shown
  });

  // No browser notices a connection over which nothing comes any more.
  setInterval(() => {
    if (document.hidden) return;
    for (const el of streams()) {
      const s = stream(el);
      if (!connection(el)?.reader || Date.now() - s.heard < SILENCE) continue;
      lost(el);
      connect(el);
    }
  }, CHECK);

  // hx-sse closes the streams of a hidden tab, and the page of a tab that comes back may be old.
  document.addEventListener("visibilitychange", () => {
    for (const el of streams()) {
      const s = stream(el);
      clearTimeout(s.doubt);
      clearTimeout(s.retry);
      const unseen = s.unseen;
      s.unseen = document.hidden;
      if (document.hidden || !unseen) continue;
      if (s.final === 401) s.final = 0; // perhaps somebody has signed in in another tab
      doubt(el);
      connect(el);
    }
  });
  addEventListener("offline", () => { for (const el of streams()) lost(el); });
  addEventListener("online", () => { for (const el of streams()) connect(el); });
  document.addEventListener("click", (e) => {
    if (e.target.closest("[data-reconnect]")) for (const el of streams()) connect(el);
  });
})();
