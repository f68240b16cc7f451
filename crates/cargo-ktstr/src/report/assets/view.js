// The visible part of the run, and the rows that are shown.
const canvas = document.getElementById("lanes");
const ROW = 20, GAP = 10, HEAD = 44, FEW = 30;
const view = { from: 0, to: 1, rows: [], tasks: FEW, filter: "", row: -1, time: null };

const gutter = () => (canvas.clientWidth < 600 ? 100 : 230);
const scale = () => (canvas.clientWidth - gutter() - 6) / (view.to - view.from);
const xOf = (time) => gutter() + (time - view.from) * scale();
const timeOf = (x) => view.from + (x - gutter()) / scale();
const yOf = (row) => HEAD + row * ROW + (row >= run.cpus.length ? GAP : 0);

function rowOf(y) {
  let row = Math.floor((y - HEAD) / ROW);
  if (row >= run.cpus.length) {
    row = Math.floor((y - HEAD - GAP) / ROW);
    if (row < run.cpus.length) return -1;
  }
  return y >= HEAD && row < view.rows.length ? row : -1;
}

// Sets the rows: the CPUs, then the first tasks whose name or cgroup contains the text of the filter.
function chooseRows() {
  const wanted = view.filter.toLowerCase();
  const matching = [];
  run.tasks.forEach((task, index) => {
    if (`${task[0]} ${task[1]}`.toLowerCase().includes(wanted)) matching.push(index);
  });
  const tasks = matching.slice(0, view.tasks);
  view.rows = run.cpus.map((place, cpu) => ({
    list: ofCpu[cpu], cpu, name: `CPU ${cpu}`, note: `LLC ${place[0]}, node ${place[1]}`,
  })).concat(tasks.map((task) => ({ list: ofTask[task], task, name: run.tasks[task][0], note: run.tasks[task][1] })));
  if (view.row >= view.rows.length) view.row = -1;
  const more = document.getElementById("more");
  more.hidden = matching.length <= tasks.length;
  more.textContent = `More tasks (${tasks.length} of ${matching.length} are shown)`;
  canvas.style.height = `${yOf(view.rows.length) + 6}px`;
}

function show(from, to) {
  // At least a microsecond is shown: a shorter interval holds nothing of interest.
  const length = Math.min(Math.max(to - from, 1000), Math.max(run.end, 1000));
  view.from = Math.min(Math.max((from + to - length) / 2, 0), Math.max(run.end, 1000) - length);
  view.to = view.from + length;
  draw();
}

const move = (part) => show(view.from + (view.to - view.from) * part, view.to + (view.to - view.from) * part);

// Zooms around `time`, which stays where it is.
function zoom(factor, time = (view.from + view.to) / 2) {
  show(time - (time - view.from) * factor, time + (view.to - time) * factor);
}

function showSteps() {
  const steps = run.phases;
  if (steps.length === 0) return show(0, run.end);
  const from = steps[0].from, to = steps[steps.length - 1].to;
  show(from - (to - from) * 0.02, to + (to - from) * 0.02);
}

function showMark(mark) {
  const around = Math.max((mark.to - mark.from) * 0.3, mark.to > mark.from ? 1e6 : 2e7);
  if (mark.task !== null) {
    view.filter = document.getElementById("filter").value = "";
    view.tasks = Math.max(view.tasks, mark.task + 1);
    chooseRows();
    view.row = run.cpus.length + mark.task;
  }
  show(mark.from - around, mark.to + around);
}

// Formats a time in seconds. `length` is the length of the visible interval, which determines the number of digits.
function seconds(ns, length) {
  const digits = length < 1e5 ? 6 : length < 1e7 ? 5 : length < 1e9 ? 3 : 2;
  return `${(ns / 1e9).toFixed(digits)} s`;
}
function lengthText(ns) {
  if (ns < 1e3) return `${Math.round(ns)} ns`;
  if (ns < 1e6) return `${(ns / 1e3).toFixed(1)} µs`;
  if (ns < 1e9) return `${(ns / 1e6).toFixed(2)} ms`;
  return `${(ns / 1e9).toFixed(3)} s`;
}
