// The panel of deliveries: what workers are doing now, from the statuses of fan-outs, and a plot of the last minute.
import { $, count, el, svg } from "./dom.js";
import { ask, attempt } from "./net.js";

const NAMES = new Map();
const WIDTH = 300, HEIGHT = 96;
const rows = new Map();
let timer = null;

const number = (value) => Math.round(value).toLocaleString("en");
const seconds = (value) => (value < 10 ? value.toFixed(2) : value.toFixed(0)) + " s";

export function open(people) {
  for (const person of people) NAMES.set(person.id, person.name);
  clearTimeout(timer);
  look();
}

async function look() {
  let running = 0;
  try {
    if (document.visibilityState === "visible") running = draw(await (await fetch("/api/fanouts")).json());
  } catch {
    running = 0; // the next look says more
  }
  timer = setTimeout(look, running ? 300 : 1000);
}

function draw(found) {
  const current = found.fanouts.find((each) => each.running) ?? found.fanouts[0];
  $("#running").hidden = !found.running;
  $("#running").textContent = `${found.running} running`;
  $("#rate").textContent = number(found.rate);
  $("#lag").textContent = seconds(found.lag);
  $("#chunks").textContent = current ? `${current.done} / ${current.planned}` : "–";
  plot(found.rates);
  const ids = new Set(found.fanouts.map((each) => each.id));
  for (const [id, { made }] of rows) if (!ids.has(id) && rows.delete(id)) made.remove();
  found.fanouts.forEach((each, index) => {
    if (!rows.has(each.id)) rows.set(each.id, row(each));
    const { made, bar, text } = rows.get(each.id);
    bar.max = each.audience || 1;
    bar.value = each.running ? Math.min(each.reached, each.audience) : bar.max;
    made.title = `${number(each.reached)} feeds were written`;
    text.textContent = each.planned ? `${each.done} / ${count(each.planned, "chunk")} · ${seconds(each.seconds)}` : "accepted";
    made.classList.toggle("running", each.running);
    if ($("#fanout-list").children[index] !== made) $("#fanout-list").insertBefore(made, $("#fanout-list").children[index] ?? null);
  });
  return found.running;
}

function row(each) {
  const name = NAMES.get(each.actor) ?? "Somebody";
  const bar = el("progress", { "aria-label": `Post of ${name}` }), text = el("span", { class: "soft" });
  return { bar, text, made: el("li", {}, el("div", { class: "row" }, el("strong", {}, name), text), bar) };
}

function plot(rates) {
  const top = Math.max(10, ...rates) * 1.15, step = WIDTH / (rates.length - 1);
  const points = rates.map((rate, index) => `${(index * step).toFixed(1)},${(HEIGHT - 2 - (rate / top) * (HEIGHT - 6)).toFixed(1)}`);
  const peak = Math.max(...rates);
  $("#peak").textContent = peak ? `peak ${number(peak)}/s` : "";
  $("#plot").setAttribute("aria-label", `Deliveries a second in the last minute: ${number(rates.at(-1))} now, ${number(peak)} at most`);
  $("#plot").replaceChildren(
    ...[0.25, 0.5, 0.75].map((part) => svg("line", { class: "grid", x1: 0, x2: WIDTH, y1: HEIGHT * part, y2: HEIGHT * part })),
    svg("polygon", { points: `0,${HEIGHT} ${points.join(" ")} ${WIDTH},${HEIGHT}` }),
    svg("polyline", { points: points.join(" ") }));
}

$("#big-post").addEventListener("click", attempt(async () => {
  await ask("POST", "/fanouts", {});
  clearTimeout(timer);
  await look();
}));
