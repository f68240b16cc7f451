// Draws the rows, the steps behind them and the marks in front of them.
let asked = false;
function draw() {
  if (!asked) requestAnimationFrame(paint);
  asked = true;
}

function paint() {
  asked = false;
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const light = colour("light");
  const hue = (index) => `hsl(${(index * 137.5 + 205) % 360} 52% ${light})`;
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight, left = gutter();
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  pen.font = "12px system-ui, sans-serif";
  pen.textBaseline = "middle";
  pen.save();
  pen.beginPath();
  pen.rect(left, 0, width - left, height);
  pen.clip();
  paintSteps(pen, colour, height);
  paintTicks(pen, colour, width, height);
  view.rows.forEach((row, at) => paintRow(pen, row, yOf(at) + 2, ratio, colour, hue));
  paintGaps(pen, colour, height);
  paintMarks(pen, colour, height);
  pen.restore();
  paintNames(pen, colour, width, left);
  const range = document.getElementById("range");
  range.textContent = `${seconds(view.from - run.zero, view.to - view.from)} to ${seconds(view.to - run.zero, view.to - view.from)}`;
}

function paintSteps(pen, colour, height) {
  for (const step of run.phases) {
    const from = xOf(step.from), to = xOf(step.to);
    pen.fillStyle = colour("band");
    pen.fillRect(from, 0, to - from, height);
    pen.fillStyle = colour("soft");
    pen.fillRect(from, 0, 1, height);
    const name = shortened(pen, step.name, to - Math.max(from, gutter()) - 8);
    pen.fillText(name, Math.max(from, gutter()) + 4, 9);
  }
}

function paintTicks(pen, colour, width, height) {
  const least = (view.to - view.from) / Math.max((width - gutter()) / 90, 2);
  const power = 10 ** Math.floor(Math.log10(least));
  const each = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= least);
  for (let n = Math.ceil((view.from - run.zero) / each); n * each + run.zero <= view.to; n++) {
    const x = xOf(n * each + run.zero);
    pen.fillStyle = colour("rule");
    pen.fillRect(x, HEAD - 6, 1, height);
    pen.fillStyle = colour("soft");
    pen.fillText(seconds(n * each, each), x + 3, HEAD - 9);
  }
}

// Of several stretches that fall on the same pixel, only the first is drawn.
function paintRow(pen, row, y, ratio, colour, hue) {
  let edge = -1;
  for (let at = after(row.list, view.from); at < row.list.length; at++) {
    const i = row.list[at];
    if (s.from[i] > view.to) break;
    const to = xOf(s.to[i]);
    if (to * ratio <= edge) continue;
    const from = Math.max(xOf(s.from[i]), edge / ratio);
    const wide = Math.max(to - from, 1 / ratio);
    edge = Math.ceil((from + wide) * ratio);
    if (s.kind[i] === RAN) pen.fillStyle = row.cpu === undefined ? hue(s.cpu[i]) : hue(s.task[i]);
    else pen.fillStyle = colour(s.kind[i] === WAITED ? "waited" : s.kind[i] === THROTTLED ? "throttled" : "several");
    const thin = s.kind[i] === WAITED ? 5 : 0;
    pen.fillRect(from, y + thin, wide, ROW - 4 - 2 * thin);
    if (row.cpu !== undefined && wide > 50 && s.kind[i] === RAN) {
      pen.fillStyle = "#fff";
      const begin = Math.max(from, gutter());
      pen.fillText(shortened(pen, run.tasks[s.task[i]][0], Math.min(to, canvas.clientWidth) - begin - 8), begin + 4, y + ROW / 2 - 2);
    }
  }
}

function paintGaps(pen, colour, height) {
  for (const [from, to] of run.gaps) {
    pen.fillStyle = colour("several");
    pen.globalAlpha = 0.35;
    pen.fillRect(xOf(from), HEAD, xOf(to) - xOf(from), height);
    pen.globalAlpha = 1;
    pen.fillText(shortened(pen, "left out", xOf(to) - xOf(from)), Math.max(xOf(from), gutter()) + 4, HEAD + 8);
  }
}

function paintMarks(pen, colour, height) {
  let free = -Infinity;
  const order = run.marks.map((mark, at) => at).sort((a, b) => run.marks[a].from - run.marks[b].from);
  for (const at of order) {
    const mark = run.marks[at];
    if (mark.to < view.from || mark.from > view.to) continue;
    const ink = colour(mark.finding ? "bad" : "soft");
    const from = xOf(mark.from), to = xOf(mark.to);
    pen.strokeStyle = pen.fillStyle = ink;
    const row = mark.task === null ? -1 : view.rows.findIndex((row) => row.task === mark.task);
    if (mark.exact && row >= 0 && to - from > 3) {
      pen.lineWidth = 2;
      pen.strokeRect(from, yOf(row) + 1, to - from, ROW - 2);
    }
    if (mark.exact) pen.fillRect(from - 0.5, 16, 1, height);
    // Flags that would cover each other stand side by side.
    const x = Math.max(from, free, gutter());
    free = x + 16;
    if (mark.finding) {
      pen.fillRect(x, 16, 15, 13);
      pen.fillStyle = colour("back");
      pen.fillText(String(mark.finding), x + (mark.finding > 9 ? 1 : 4), 23);
    } else pen.fillRect(x, 19, 6, 7);
  }
}

function paintNames(pen, colour, width, left) {
  view.rows.forEach((row, at) => {
    const y = yOf(at);
    if (at === view.row) {
      pen.strokeStyle = colour("link");
      pen.lineWidth = 2;
      pen.strokeRect(1, y, width - 2, ROW);
    }
    pen.fillStyle = colour("front");
    const name = shortened(pen, row.name, left - 14, 0.4);
    pen.fillText(name, 8, y + ROW / 2);
    const rest = left - 22 - pen.measureText(name).width;
    if (rest > 30) {
      pen.fillStyle = colour("soft");
      pen.fillText(shortened(pen, row.note, rest, row.cpu === undefined ? 0 : 1), 14 + pen.measureText(name).width, y + ROW / 2);
    }
  });
}

// Returns as much of `text` as fits into `wide` pixels. The share `head` of it, from 0 to 1, is the start of the text, and the
// rest is its end.
function shortened(pen, text, wide, head = 1) {
  if (wide < 12) return "";
  if (pen.measureText(text).width <= wide) return text;
  let few = Math.max(Math.floor(text.length * wide / pen.measureText(text).width) - 1, 0);
  const cut = () => {
    const begin = Math.round(few * head);
    return `${text.slice(0, begin)}…${text.slice(text.length - few + begin)}`;
  };
  while (few > 0 && pen.measureText(cut()).width > wide) few--;
  return few > 0 ? cut() : "";
}
