"use strict";

if (window.name === "vicinal-follower") parent.postMessage({ finished: true }, "*"); // a tab that follows the sweep

const figures = JSON.parse(document.getElementById("pictures").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
const paper = matchMedia("print");
const touch = matchMedia("(pointer: coarse)").matches;

/** The page's colours for text and grid, which change with the reader's light or dark setting and for paper. */
function colors() {
  const value = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const [ink, line, page] = ["--ink", "--line", "--page"].map(value);
  const changes = { "font.color": ink, "hoverlabel.bgcolor": page, "hoverlabel.font.color": ink };
  for (const axis of ["xaxis", "yaxis"]) {
    changes[`${axis}.gridcolor`] = line;
    changes[`${axis}.linecolor`] = line;
  }
  return changes;
}

function plots() {
  return [...document.querySelectorAll(".plot")];
}

function recolor() {
  plots().forEach((plot) => Plotly.relayout(plot, colors()));
}

for (const [name, panels] of Object.entries(figures)) {
  panels.forEach(({ data, layout }, index) => {
    layout.dragmode = touch ? false : "zoom"; // a finger on a plot scrolls the page
    Plotly.newPlot(`${name}-${index}`, data, layout, { displayModeBar: false, responsive: true });
  });
}
recolor();
dark.addEventListener("change", recolor);
paper.addEventListener("change", () => {
  recolor();
  plots().forEach((plot) => Plotly.Plots.resize(plot));
});
addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach((item) => { item.open = true; });
});

document.querySelectorAll(".legend button").forEach((button) => {
  button.addEventListener("click", () => {
    const visible = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(visible));
    button.closest("figure").querySelectorAll(".plot").forEach((plot) => {
      const traces = plot.data.flatMap((trace, index) => (trace.meta === Number(button.dataset.series) ? [index] : []));
      if (traces.length) Plotly.restyle(plot, { visible }, traces);
    });
  });
});
