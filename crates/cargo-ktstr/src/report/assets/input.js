// Handles keys, pointers and buttons.
function step(by) {
  if (view.row < 0) view.row = 0;
  const list = view.rows[view.row].list;
  const time = view.time ?? (view.from + view.to) / 2;
  let at = after(list, time);
  if (at < list.length && s.from[list[at]] <= time) at += by;
  else if (by < 0) at -= 1;
  if (at < 0 || at >= list.length) return;
  const i = list[at];
  view.time = (s.from[i] + s.to[i]) / 2;
  const length = view.to - view.from;
  if (view.time < view.from || view.time > view.to) show(view.time - length / 2, view.time + length / 2);
  draw();
  describe(view.row, view.time);
}

function chooseRow(by) {
  view.row = Math.min(Math.max(view.row + by, 0), view.rows.length - 1);
  draw();
  const time = view.time ?? (view.from + view.to) / 2;
  describe(view.row, Math.min(Math.max(time, view.from), view.to));
}

const KEYS = {
  ArrowLeft: () => move(-0.2), ArrowRight: () => move(0.2), "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2),
  ArrowUp: () => chooseRow(-1), ArrowDown: () => chooseRow(1), ",": () => step(-1), ".": () => step(1),
  Home: () => show(0, run.end), Escape: hush,
};

function listen() {
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
    event.preventDefault();
    KEYS[event.key]();
  });
  const click = (id, does) => document.getElementById(id).addEventListener("click", does);
  click("zoom-in", () => zoom(0.5));
  click("zoom-out", () => zoom(2));
  click("earlier", () => move(-0.5));
  click("later", () => move(0.5));
  click("steps", showSteps);
  click("whole", () => show(0, run.end));
  click("more", () => {
    view.tasks += FEW;
    chooseRows();
    draw();
  });
  document.getElementById("filter").addEventListener("input", (event) => {
    view.filter = event.target.value;
    chooseRows();
    hush();
    draw();
  });
  for (const button of document.querySelectorAll("[data-mark]")) {
    button.addEventListener("click", () => {
      showMark(run.marks[Number(button.dataset.mark)]);
      document.getElementById("lanes-box").scrollIntoView({ block: "nearest" });
      canvas.focus({ preventScroll: true });
    });
  }
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.shiftKey) return;
    event.preventDefault();
    if (event.shiftKey) move((event.deltaX || event.deltaY) / 500);
    else zoom(Math.exp(event.deltaY / 300), timeOf(event.offsetX));
  }, { passive: false });
  listenToPointers();
}

function listenToPointers() {
  const down = new Map();
  canvas.addEventListener("pointerdown", (event) => {
    down.set(event.pointerId, event.offsetX);
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    const last = down.get(event.pointerId);
    if (last === undefined) return point(event);
    down.set(event.pointerId, event.offsetX);
    const others = [...down.entries()].filter(([id]) => id !== event.pointerId);
    if (others.length > 0) {
      // Two fingers zoom: the time under the finger that does not move keeps its place.
      const other = others[0][1];
      const before = Math.max(Math.abs(last - other), 10), now = Math.max(Math.abs(event.offsetX - other), 10);
      zoom(before / now, timeOf(other));
    } else if (event.offsetX !== last) {
      hush();
      const by = (last - event.offsetX) / scale();
      show(view.from + by, view.to + by);
    }
  });
  const up = (event) => {
    down.delete(event.pointerId);
    if (event.type === "pointerup") point(event);
  };
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, up);
  canvas.addEventListener("pointerleave", hush);
}

function point(event) {
  if (event.offsetX < gutter()) return hush();
  view.time = timeOf(event.offsetX);
  describe(rowOf(event.offsetY), view.time);
}

if (run) {
  chooseRows();
  showSteps();
  listen();
  new ResizeObserver(draw).observe(canvas);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
}
