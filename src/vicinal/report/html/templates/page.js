"use strict";

// Figures: a tooltip with the values of the point that is nearest to the pointer or chosen by an arrow key, and a legend
// that hides series. All events are taken from the document, since a page that follows a sweep replaces its figures.
const REACH_PIXELS = 24;
let chosen = -1; // index of the point that the keyboard has reached

/** Return the points of the visible series of a drawing, in its own units. */
function pointsOf(drawing) {
  return [...drawing.querySelectorAll(".series:not(.off)")].flatMap((series) => {
    const numbers = series.querySelector(".line").getAttribute("d").match(/[\d.]+/g).map(Number);
    return Array.from({ length: numbers.length / 2 }, (_, index) => (
      { series, index, x: numbers[2 * index], y: numbers[2 * index + 1] }));
  });
}

/** Return what a tooltip says of a point, one line per axis that has numbers. */
function describe({ series, index }) {
  const values = JSON.parse(series.dataset.values);
  const axes = JSON.parse(series.closest(".drawing").dataset.axes);
  return [values.labels[index] ?? values.labels[0], ...Object.entries(axes).map(([axis, { title, percent }]) => {
    const text = (value) => (percent ? `${(100 * value).toFixed(2)}%` : `${Number(value.toPrecision(4))}`);
    const [at, low, high] = values[axis];
    return `${title}: ${text(at[index])}${low[index] == null ? "" : ` (${text(low[index])} to ${text(high[index])})`}`;
  })].join("\n");
}

function show(drawing, point) {
  const tip = drawing.parentElement.querySelector(".tip");
  const { width, height } = drawing.viewBox.baseVal;
  tip.textContent = describe(point);
  tip.style.left = `${(100 * point.x) / width}%`;
  tip.style.top = `${(100 * point.y) / height}%`;
  tip.style.translate = `${(-100 * point.x) / width}%`; // inside the plot at both of its ends
  tip.hidden = false;
  ring(drawing, point.x, point.y);
}

function ring(drawing, x, y) {
  drawing.querySelector(".ring").setAttribute("cx", x);
  drawing.querySelector(".ring").setAttribute("cy", y);
}

function hide() {
  document.querySelectorAll(".tip:not([hidden])").forEach((tip) => {
    tip.hidden = true;
    ring(tip.parentElement.querySelector(".drawing"), -9, -9);
  });
}

function point({ target, clientX, clientY }) {
  hide();
  const drawing = target.closest?.(".drawing");
  if (!drawing) return;
  const box = drawing.getBoundingClientRect();
  const scale = box.width / drawing.viewBox.baseVal.width;
  const distance = ({ x, y }) => Math.hypot(box.left + scale * x - clientX, box.top + scale * y - clientY);
  const points = pointsOf(drawing).sort((one, other) => distance(one) - distance(other));
  if (points.length && distance(points[0]) <= REACH_PIXELS) show(drawing, points[0]);
}

function step(event) {
  const drawing = event.target.closest(".drawing");
  const change = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (change || event.key === "Escape") hide();
  if (!drawing || !change) return;
  event.preventDefault(); // the page does not scroll
  const points = pointsOf(drawing);
  chosen += change;
  if (chosen < 0) chosen = points.length - 1;
  if (chosen >= points.length) chosen = 0;
  if (points.length) show(drawing, points[chosen]);
}

/** Hide the series whose boxes in the legend are not ticked. */
function toggle() {
  document.querySelectorAll(".legend input").forEach((box) => {
    box.closest("figure").querySelectorAll(`[data-series="${box.value}"]`).forEach((series) => {
      series.classList.toggle("off", !box.checked);
    });
  });
}

toggle();
addEventListener("change", toggle);
addEventListener("pointermove", point);
addEventListener("click", point); // a tap, after it has moved the focus
addEventListener("keydown", step);
addEventListener("focusin", () => { chosen = -1; });
addEventListener("focusout", hide);
addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach((item) => { item.open = true; });
});
