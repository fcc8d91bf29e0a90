// The image of a result: zoom and pan with pointer, touch and keys; what was found, and a class map, laid over it.
"use strict";

const STEP = 1.25; // zoom per press of a key or button
const DEEPEST = 6; // screen pixels per pixel of the picture, at most
const PAN = 60; // CSS pixels per press of an arrow key

function setUp(viewer) {
  const stage = viewer.querySelector(".stage");
  const map = viewer.querySelector(".map");
  const marks = viewer.querySelector(".marks");
  const tools = document.getElementById(viewer.dataset.tools);
  const width = Number(viewer.dataset.width);
  const height = Number(viewer.dataset.height);
  const pointers = new Map();
  let scale = 1, x = 0, y = 0, fitted = true;

  const fit = () => Math.min(viewer.clientWidth / width, viewer.clientHeight / height);
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  // A picture smaller than its frame is centred, a larger one always fills it.
  const place = (offset, size, frame) => (size <= frame ? (frame - size) / 2 : clamp(offset, frame - size, 0));

  function draw() {
    x = place(x, width * scale, viewer.clientWidth);
    y = place(y, height * scale, viewer.clientHeight);
    stage.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    tools.querySelector("[data-zoom-shown]").value = `${Math.round(scale * 100)} %`;
  }

  function show(whole) {
    scale = whole ? fit() : 1;
    x = (viewer.clientWidth - width * scale) / 2;
    y = (viewer.clientHeight - height * scale) / 2;
    fitted = whole;
    draw();
  }

  // Keeps the point (px, py) of the frame, by default its centre, where it is.
  function zoom(factor, px = viewer.clientWidth / 2, py = viewer.clientHeight / 2) {
    const before = scale;
    scale = clamp(scale * factor, Math.min(fit(), 1), DEEPEST);
    x = px - ((px - x) * scale) / before;
    y = py - ((py - y) * scale) / before;
    fitted = false;
    draw();
  }

  function pan(dx, dy) {
    x += dx;
    y += dy;
    fitted = false;
    draw();
  }

  const commands = {
    in: () => zoom(STEP), out: () => zoom(1 / STEP), fit: () => show(true), actual: () => show(false),
    left: () => pan(PAN, 0), right: () => pan(-PAN, 0), up: () => pan(0, PAN), down: () => pan(0, -PAN),
    map: () => { map.hidden = !map.hidden || !map.getAttribute("src"); },
    marks: () => { if (marks) marks.hidden = !(marked.checked = marks.hidden); },
  };
  const keys = {
    "+": "in", "=": "in", "-": "out", "_": "out", 0: "fit", 1: "actual", m: "map", l: "marks",
    ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down",
  };

  const at = (event) => {
    const frame = viewer.getBoundingClientRect();
    return { x: event.clientX - frame.left, y: event.clientY - frame.top };
  };

  viewer.addEventListener("keydown", (event) => {
    if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
    commands[keys[event.key]]();
    event.preventDefault();
  });
  viewer.addEventListener("wheel", (event) => {
    const point = at(event);
    zoom(Math.exp(-clamp(event.deltaY, -100, 100) / 300), point.x, point.y);
    event.preventDefault();
  }, { passive: false });
  viewer.addEventListener("dblclick", (event) => {
    const point = at(event);
    zoom(2, point.x, point.y);
  });
  viewer.addEventListener("pointerdown", (event) => {
    pointers.set(event.pointerId, at(event));
    viewer.setPointerCapture(event.pointerId);
    viewer.classList.add("dragging");
  });
  viewer.addEventListener("pointermove", (event) => {
    const last = pointers.get(event.pointerId);
    if (!last) return;
    const now = at(event);
    pointers.set(event.pointerId, now);
    if (pointers.size === 1) return pan(now.x - last.x, now.y - last.y);
    const other = [...pointers].find(([id]) => id !== event.pointerId)[1]; // two fingers: the other one is the pivot
    const distance = (a, b) => Math.hypot(a.x - b.x, a.y - b.y) || 1;
    zoom(distance(now, other) / distance(last, other), other.x, other.y);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    viewer.addEventListener(end, (event) => {
      pointers.delete(event.pointerId);
      viewer.classList.toggle("dragging", pointers.size > 0);
    });
  }
  tools.addEventListener("click", (event) => {
    const button = event.target.closest("[data-command]");
    if (button) commands[button.dataset.command]();
  });

  const marked = tools.querySelector("[data-marks]");
  if (marked) marked.addEventListener("change", () => { marks.hidden = !marked.checked; });

  const label = tools.querySelector("[data-label]");
  const opacity = tools.querySelector("[data-opacity]");
  if (label) {
    const choose = () => {
      if (label.value) map.src = label.value;
      else map.removeAttribute("src");
      map.hidden = !label.value;
      map.alt = label.value ? `Class map of ${label.selectedOptions[0].text}` : "";
    };
    const fade = () => {
      map.style.opacity = opacity.value / 100;
      opacity.setAttribute("aria-valuetext", `${opacity.value} percent`);
    };
    label.addEventListener("change", choose);
    opacity.addEventListener("input", fade);
    choose();
    fade();
  }

  stage.style.width = `${width}px`;
  stage.style.height = `${height}px`;
  new ResizeObserver(() => (fitted ? show(true) : draw())).observe(viewer);
}

for (const viewer of document.querySelectorAll("[data-viewer]")) setUp(viewer);
