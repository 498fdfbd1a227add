"use strict";

// The page is written again while the sweep runs. A hidden frame loads it again and hands over what is in it now, so
// that scrolling, focus and what is opened stay as they are. This works for files too, where nothing can be fetched.
const FOLLOWER = "vicinal-follower";
const POLL_MS = 2000;
const STALE_POLL_MS = 10000;
const { body } = document;

/** Make one tree equal to another, and leave equal parts as they are. */
function morph(now, next) {
  if (now.isEqualNode(next)) return;
  if (now.nodeName !== next.nodeName || now.id !== next.id || now.nodeType !== Node.ELEMENT_NODE) {
    now.replaceWith(next.cloneNode(true));
    return;
  }
  for (const { name } of [...now.attributes]) {
    if (!next.hasAttribute(name) && !(name === "open" && now.nodeName === "DETAILS")) now.removeAttribute(name);
  }
  for (const { name, value } of next.attributes) {
    if (now.getAttribute(name) !== value) now.setAttribute(name, value);
  }
  const olds = [...now.childNodes];
  const news = [...next.childNodes];
  news.forEach((child, index) => (index < olds.length ? morph(olds[index], child) : now.append(child.cloneNode(true))));
  olds.slice(news.length).forEach((child) => child.remove());
}

function duration(seconds) {
  if (seconds < 100) return `${Math.max(0, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 100 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** Show how old the page is, and warn when it has not been written for long. */
function showAge() {
  const seconds = Date.now() / 1000 - Number(body.dataset.written);
  const over = body.dataset.over === "true";
  const stale = !over && seconds > 3 * Number(body.dataset.every);
  document.getElementById("age").textContent = over ? "" : `, ${duration(seconds)} ago`;
  const note = document.getElementById("stale");
  note.hidden = !stale;
  body.classList.toggle("stale", stale);
  note.textContent = stale
    ? `No news for ${duration(seconds)}: the sweep was killed, or its machine sleeps or cannot write. Runs shown as `
      + `running may have stopped. ${body.dataset.command} shows the present state; rerun the sweep's command to resume.`
    : "";
}

function follow() {
  const frame = document.createElement("iframe");
  frame.name = FOLLOWER;
  frame.title = "the page as it is written now";
  frame.hidden = true;
  body.append(frame);
  let timer = 0;
  const poll = () => {
    frame.src = `${location.href.replace(/[?#].*$/, "")}?${Date.now()}`;
    timer = setTimeout(poll, body.classList.contains("stale") ? STALE_POLL_MS : POLL_MS);
  };
  timer = setTimeout(poll, POLL_MS);
  addEventListener("message", ({ source, data }) => {
    if (source !== frame.contentWindow) return;
    if (data.finished) {
      clearTimeout(timer);
      location.reload(); // to the report, which is another page
      return;
    }
    const next = new DOMParser().parseFromString(data.page, "text/html");
    if (next.body.dataset.written === body.dataset.written) return;
    document.title = next.title;
    Object.assign(body.dataset, next.body.dataset);
    for (const part of ["header", "main"]) morph(document.querySelector(part), next.querySelector(part));
    toggle();
    showAge();
    if (body.dataset.over === "true") {
      clearTimeout(timer);
      frame.remove();
    }
  });
}

if (window.name === FOLLOWER) {
  parent.postMessage({ page: document.documentElement.outerHTML }, "*");
} else {
  showAge();
  if (body.dataset.over !== "true") {
    setInterval(showAge, 1000);
    follow();
  }
}
