"use strict";
const charts = JSON.parse(document.getElementById("charts").textContent);
const rows = [...document.querySelectorAll("#table tbody tr")];
const articles = [...document.querySelectorAll("article")];

// ---------------------------------------------------------------- the table: filter and sort
const filter = document.getElementById("filter"), toggles = [...document.querySelectorAll(".toggle")];
function show() {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  const wanted = new Set(toggles.filter(t => t.getAttribute("aria-pressed") === "true").map(t => t.dataset.verdict));
  const shown = new Set();
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !wanted.has(row.dataset.verdict) || !words.every(word => text.includes(word));
    if (!row.hidden) shown.add(row.querySelector("a").hash.slice(1));
  }
  for (const article of articles) article.hidden = !shown.has(article.id);
  document.getElementById("shown").textContent = `${shown.size} of ${rows.length} claims shown`;
}
filter.addEventListener("input", show);
for (const toggle of toggles) toggle.addEventListener("click", () => {
  toggle.setAttribute("aria-pressed", String(toggle.getAttribute("aria-pressed") !== "true"));
  show();
});
const heads = [...document.querySelectorAll("#table thead th")];
heads.forEach((head, column) => head.querySelector("button").addEventListener("click", event => {
  const down = head.getAttribute("aria-sort") === "ascending", isNumber = event.currentTarget.dataset.kind === "number";
  for (const other of heads) other.setAttribute("aria-sort", other === head ? (down ? "descending" : "ascending") : "none");
  const key = row => isNumber ? (row.cells[column].dataset.value === "" ? NaN : Number(row.cells[column].dataset.value))
                              : row.cells[column].textContent.trim();
  rows.sort((a, b) => {
    const [x, y] = [key(a), key(b)];
    if (isNumber && (Number.isNaN(x) || Number.isNaN(y))) return Number.isNaN(x) - Number.isNaN(y);  // missing numbers come last
    return (down ? -1 : 1) * (isNumber ? x - y : x.localeCompare(y));
  });
  rows[0]?.parentNode.append(...rows);
}));
for (const button of document.querySelectorAll("[data-copy]")) button.addEventListener("click", () => {
  const code = document.getElementById(button.dataset.copy);
  navigator.clipboard?.writeText(code.textContent).then(() => { button.textContent = "copied"; }, () => {});
  getSelection().selectAllChildren(code);
});

// ------------------------------------------------------------------------------- the pictures
const style = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const short = value => value === 0 ? "0" : Math.abs(value) >= 1e-3 && Math.abs(value) < 1e4 ? String(+value.toPrecision(3))
                                                                             : value.toExponential(1).replace("e+", "e").replace(".0e", "e");
function context(canvas) {
  const scale = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const c = canvas.getContext("2d");
  c.scale(scale, scale);
  c.font = "11px system-ui, sans-serif";
  c.fillStyle = style("--quiet");
  return [c, width, height];
}
function decoded(text) {  // little-endian numbers of 16 bits: 0 is a gap, 1 to 65535 the logarithm from lo to hi
  const bytes = Uint8Array.from(atob(text), character => character.charCodeAt(0)), view = new DataView(bytes.buffer);
  return Array.from({ length: bytes.length / 2 }, (_, index) => view.getUint16(2 * index, true));
}
function ticks(lo, hi) {  // powers of ten if there are at least two, else thirds of the range
  const first = Math.ceil(lo), count = Math.floor(hi) - first + 1, step = Math.ceil(count / 5);
  return count < 2 ? [0, 1, 2, 3].map(third => lo + third / 3 * (hi - lo))
                   : Array.from({ length: Math.ceil(count / step) }, (_, index) => first + index * step);
}
function drawCurves(canvas, chart) {
  const [c, width, height] = context(canvas), left = 52, right = width - 8, top = 8, bottom = height - 20;
  const { epochs, lo, hi } = chart, first = Math.log(epochs[0]), last = Math.log(epochs[epochs.length - 1]);
  const x = index => left + (Math.log(epochs[index]) - first) / (last - first || 1) * (right - left);
  const y = level => bottom - (level - 1) / 65534 * (bottom - top), ofLog = log => 1 + (log - lo) / (hi - lo) * 65534;
  c.textAlign = "right";
  for (const tick of ticks(lo, hi)) {
    const at = y(ofLog(tick));
    c.fillText(short(10 ** tick), left - 5, at + 4);
    c.strokeStyle = style("--line"); c.lineWidth = 1;
    c.beginPath(); c.moveTo(left, at); c.lineTo(right, at); c.stroke();
  }
  c.textAlign = "left"; c.fillText(`epoch ${epochs[0]}`, left, height - 5);
  c.textAlign = "right"; c.fillText(`${epochs[epochs.length - 1]}`, right, height - 5);
  const trace = (values, from) => {
    let isDown = false;
    for (let index = 0; index < epochs.length; index++) {
      const level = values[from + index];
      if (level === 0) { isDown = false; continue; }
      isDown ? c.lineTo(x(index), y(level)) : c.moveTo(x(index), y(level));
      isDown = true;
    }
  };
  const curves = decoded(chart.curves), median = decoded(chart.median);
  c.strokeStyle = style("--curve"); c.lineWidth = 0.5; c.globalAlpha = curves.length / epochs.length > 40 ? 0.35 : 0.8;
  c.beginPath();
  for (let from = 0; from < curves.length; from += epochs.length) trace(curves, from);
  c.stroke(); c.globalAlpha = 1;
  c.strokeStyle = style("--median"); c.lineWidth = 1.6; c.beginPath(); trace(median, 0); c.stroke();
  c.strokeStyle = c.fillStyle = style("--floor"); c.lineWidth = 1.2; c.setLineDash([5, 4]); c.textAlign = "left";
  for (const [name, value] of chart.floors) {
    const at = y(ofLog(Math.log10(value)));
    c.beginPath(); c.moveTo(left, at); c.lineTo(right, at); c.stroke();
    c.fillText(`${name} ${short(value)}`, left + 4, at - 4 < top + 8 ? at + 12 : at - 4);
  }
}
function drawHistogram(canvas, chart) {
  const [c, width, height] = context(canvas), left = 52, right = width - 8, top = 16, bottom = height - 18, bins = 32;
  const values = chart.excess;
  if (!values.length) return;
  const isLog = values.every(value => value > 0), scaled = isLog ? values.map(Math.log10) : values;
  const low = Math.min(...scaled), high = Math.max(...scaled), counts = new Array(bins).fill(0);
  for (const value of scaled) counts[Math.min(bins - 1, Math.floor((value - low) / (high - low || 1) * bins))]++;
  const most = Math.max(...counts), step = (right - left) / bins;
  c.textAlign = "left"; c.fillText(`${chart.above}; ${values.length} seeds`, left, 11);
  c.fillStyle = style("--curve");
  counts.forEach((count, bin) => c.fillRect(left + bin * step, bottom - count / most * (bottom - top), Math.max(1, step - 1), count / most * (bottom - top)));
  c.fillStyle = style("--quiet");
  c.fillText(short(isLog ? 10 ** low : low), left, height - 5);
  c.textAlign = "right"; c.fillText(short(isLog ? 10 ** high : high), right, height - 5); c.fillText(`${most}`, left - 5, top + 8);
}
function draw(canvas) {
  const chart = charts[Number(canvas.dataset.chart)];
  if (canvas.clientWidth) (canvas.classList.contains("curves") ? drawCurves : drawHistogram)(canvas, chart);
  canvas.dataset.drawn = "yes";
}
const canvases = [...document.querySelectorAll("canvas")];
const seen = new IntersectionObserver(entries => {
  for (const entry of entries) if (entry.isIntersecting) { draw(entry.target); seen.unobserve(entry.target); }
}, { rootMargin: "400px" });
canvases.forEach(canvas => seen.observe(canvas));
const again = () => canvases.forEach(canvas => { if (canvas.dataset.drawn) draw(canvas); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
addEventListener("resize", again);
addEventListener("beforeprint", () => canvases.forEach(draw));
