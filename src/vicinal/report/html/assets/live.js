"use strict";

// The page is written again while the sweep runs. A hidden frame loads it anew and hands over what is in it now, so
// that scrolling, focus and what is opened stay as they are. This works for files too, where nothing can be fetched.
const FOLLOWER = "vicinal-follower";
const LOOK = 2000; // ms between two looks; slower once nobody seems to write any more
const { body } = document;

/** Make one tree what another is, and touch nothing that is the same already. */
function become(now, next) {
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
  news.forEach((child, index) => (index < olds.length ? become(olds[index], child) : now.append(child.cloneNode(true))));
  olds.slice(news.length).forEach((child) => child.remove());
}

function span(seconds) {
  if (seconds < 100) return `${Math.max(0, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 100 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function age() {
  return Date.now() / 1000 - Number(body.dataset.written);
}

/** Say how old the page is; what nobody has written for long may not be true any more. */
function tell() {
  const over = body.dataset.over === "true";
  const stale = !over && age() > 3 * Number(body.dataset.every);
  document.getElementById("age").textContent = over ? "" : `, ${span(age())} ago`;
  const note = document.getElementById("stale");
  note.hidden = !stale;
  body.classList.toggle("dated", stale);
  note.textContent = stale
    ? `No news for ${span(age())}: the sweep was killed, or its machine sleeps or cannot write. What is shown as `
      + `running need not be so any more. ${body.dataset.again} says what is true; the sweep's command goes on.`
    : "";
}

function follow() {
  const frame = document.createElement("iframe");
  frame.name = FOLLOWER;
  frame.title = "the page as it is written now";
  frame.hidden = true;
  body.append(frame);
  let timer = 0;
  const look = () => {
    frame.src = `${location.href.replace(/[?#].*$/, "")}?${Date.now()}`;
    timer = setTimeout(look, body.classList.contains("dated") ? 5 * LOOK : LOOK);
  };
  timer = setTimeout(look, LOOK);
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
    for (const part of ["header", "main"]) become(document.querySelector(part), next.querySelector(part));
    tell();
    if (body.dataset.over === "true") {
      clearTimeout(timer);
      frame.remove();
    }
  });
}

if (window.name === FOLLOWER) {
  parent.postMessage({ page: document.documentElement.outerHTML }, "*");
} else {
  tell();
  if (body.dataset.over !== "true") {
    setInterval(tell, 1000);
    follow();
  }
  addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((item) => { item.open = true; });
  });
}
