// Describes which task ran and which tasks waited at a time, for the tooltip.
const MOST = 6;
const taskName = (task) => (run.tasks[task] ? run.tasks[task][0] : "a task");

// Returns the CPU on whose runqueue the task of wait `i` was at `time`.
function queueOf(i, time) {
  let cpu = s.cpu[i];
  for (const [at, to] of s.moves.get(i) || []) if (at <= time) cpu = to;
  return cpu;
}

// Returns the waits at `time`, those that began first at the front; with `cpu`, only those in the queue of that CPU.
function waiting(time, cpu) {
  const found = [];
  ofTask.forEach((list) => {
    const i = during(list, time);
    if (i >= 0 && s.kind[i] === WAITED && (cpu === undefined || queueOf(i, time) === cpu)) found.push(i);
  });
  return found.sort((a, b) => s.from[a] - s.from[b]);
}

function ranText(i) {
  const what = s.kind[i] === SEVERAL
    ? `${s.task[i]} stretches too short to be drawn by themselves, ${lengthText(s.to[i] - s.from[i])} together`
    : `${taskName(s.task[i])} ran for ${lengthText(s.to[i] - s.from[i])}`;
  const then = s.kind[i] === RAN ? THEN[s.more[i] >> 3] : "";
  const kind = s.kind[i] === RAN ? CLASS[s.more[i] & 7] : "";
  return `${what}, from ${seconds(s.from[i] - run.zero, 1e7)}${kind ? `, class ${kind}` : ""}${then ? `, then ${then}` : ""}`;
}

function waitText(i) {
  const by = s.by[i] === 0 ? "" : s.by[i] === 1 ? " by an interrupt" : ` by ${taskName(s.by[i] - 2)}`;
  const cause = CAUSE[s.more[i] >> 1];
  return `${taskName(s.task[i])} waited for ${lengthText(s.to[i] - s.from[i])}, since ${seconds(s.from[i] - run.zero, 1e7)}`
    + `${cause ? `, when it ${cause}${by}` : ""}${s.more[i] & 1 ? "" : ", and got no CPU"}`;
}

function linesOfCpu(cpu, time) {
  const i = during(ofCpu[cpu], time);
  const lines = [i >= 0 ? ranText(i) : "idle, or unknown"];
  const queue = waiting(time, cpu);
  for (const wait of queue.slice(0, MOST)) {
    lines.push(`waits here: ${taskName(s.task[wait])}, for ${lengthText(time - s.from[wait])} of ${lengthText(s.to[wait] - s.from[wait])}`);
  }
  if (queue.length > MOST) lines.push(`and ${queue.length - MOST} more wait here`);
  return lines;
}

function linesOfTask(task, time) {
  const i = during(ofTask[task], time);
  if (i < 0) {
    // It is unknown what a task does from a gap on until the first stretch of the task after the last gap.
    const known = ofTask[task].find((j) => run.gaps.every(([, to]) => s.from[j] >= to));
    const missing = run.gaps.length > 0 && (known === undefined || time < s.from[known]);
    return [missing ? "unknown: events of this time or before it are missing" : "sleeps, or is not there"];
  }
  if (s.kind[i] === THROTTLED) return [`out of quota for ${lengthText(s.to[i] - s.from[i])}, since ${seconds(s.from[i] - run.zero, 1e7)}`];
  if (s.kind[i] === RAN) return [`on CPU ${s.cpu[i]}: ${ranText(i)}`];
  const lines = [waitText(i), `so far ${lengthText(time - s.from[i])}, in the queue of CPU ${queueOf(i, time)}`];
  run.cpus.slice(0, MOST).forEach((_, cpu) => {
    const other = during(ofCpu[cpu], time);
    const who = other < 0 ? "nobody, or unknown" : s.kind[other] === SEVERAL ? "several tasks" : taskName(s.task[other]);
    lines.push(`meanwhile on CPU ${cpu}: ${who}`);
  });
  return lines;
}

function linesAt(row, time) {
  const what = view.rows[row];
  const lines = what.cpu !== undefined ? linesOfCpu(what.cpu, time) : linesOfTask(what.task, time);
  for (const mark of run.marks) {
    const near = 4 / scale();
    const about = what.cpu !== undefined || mark.task === null || mark.task === what.task;
    if (mark.exact && about && time >= mark.from - near && time <= mark.to + near) {
      lines.push(mark.finding ? `Finding ${mark.finding}: ${mark.text}` : mark.text);
    }
  }
  return [`${what.name}, ${what.note}, at ${seconds(time - run.zero, view.to - view.from)}`, ...lines];
}

const tip = document.getElementById("tip");
function describe(row, time) {
  if (row < 0 || !view.rows[row]) return hush();
  tip.textContent = linesAt(row, time).join("\n");
  tip.hidden = false;
  const box = canvas.clientWidth;
  const left = Math.min(Math.max(xOf(time) + 12, 4), Math.max(box - tip.offsetWidth - 4, 4));
  const below = yOf(row) + ROW + 6;
  const above = yOf(row) - tip.offsetHeight - 6;
  tip.style.left = `${left}px`;
  tip.style.top = `${below + tip.offsetHeight > canvas.clientHeight && above >= 0 ? above : below}px`;
}
function hush() {
  tip.hidden = true;
}
