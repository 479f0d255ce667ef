// Follows the alert stream and says so, and says so at once when it can't.
// fetch instead of EventSource: it sees the keep-alive comments (sent every 2 s), so silence is noticed within 5 s,
// and the status, so that an ended session leads to the sign-in page.
"use strict";

(() => {
  const SILENCE_MS = 4000;
  const REFRESH_MS = 200;
  const RETRY_MS = [500, 1000, 2000, 4000];
  const lost = document.getElementById("lost");
  const badge = document.getElementById("live");
  const ours = document.body.dataset.patient;
  let lastId = document.body.dataset.since;
  let heard = performance.now();
  let fails = 0;

  const show = (state, words) => {
    badge.dataset.state = state;
    badge.lastElementChild.textContent = words;
    lost.hidden = state !== "lost";
  };
  // At most one refresh in REFRESH_MS, and always one after the last change.
  let due = 0;
  const refresh = () => {
    due ||= setTimeout(() => { due = 0; htmx.trigger(document.body, "alert-change"); }, REFRESH_MS);
  };

  const take = (block) => {
    let id = "", data = "";
    for (const line of block.split("\n")) {
      if (line.startsWith("id:")) id = line.slice(3).trim();
      else if (line.startsWith("data:")) data += line.slice(5).trim();
    }
    if (id) lastId = id;
    if (!data) return;
    const event = JSON.parse(data);
    if (!ours || event.patient === ours) refresh();
  };

  const follow = async () => {
    const abort = new AbortController();
    const watch = setInterval(() => {
      if (performance.now() - heard > SILENCE_MS) abort.abort();
    }, 250);
    try {
      heard = performance.now();
      const answer = await fetch("/v1/alerts/stream", { headers: { "Last-Event-ID": lastId }, signal: abort.signal, cache: "no-store" });
      if (answer.status === 401) { location.reload(); return; } // the page then says why, and how to sign in
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        heard = performance.now();
        if (badge.dataset.state === "lost") refresh();
        fails = 0;
        show("live", "Live");
        const blocks = (rest + value).split("\n\n");
        rest = blocks.pop();
        blocks.forEach(take);
      }
      setTimeout(follow, 100); // its lifetime was over: resume where it ended
    } catch {
      show("lost", "Not live");
      setTimeout(follow, RETRY_MS[Math.min(fails++, RETRY_MS.length - 1)]);
    } finally {
      clearInterval(watch);
    }
  };

  // A refresh must not close what somebody has opened.
  let open = [];
  document.addEventListener("htmx:beforeSwap", () => {
    open = [...document.querySelectorAll("details[id][open]")].map((found) => found.id);
  });
  document.addEventListener("htmx:afterSettle", () => {
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  });
  addEventListener("pagehide", () => { fails = Infinity; });
  follow();
})();
