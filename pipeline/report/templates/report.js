"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("scripted");
  const make = (name, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };

  // Light or dark: as the system has it, until somebody says otherwise.
  const theme = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const nameTheme = () => { theme.textContent = isDark() ? "Light" : "Dark"; theme.setAttribute("aria-label", isDark() ? "Switch to light" : "Switch to dark"); };
  theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; nameTheme(); });
  system.addEventListener("change", nameTheme);
  nameTheme();
  theme.hidden = false;

  // Pictures: two of the layers on top of each other, and a line between them.
  document.querySelectorAll(".viewer").forEach((viewer, index) => {
    const layers = [...viewer.querySelectorAll(".layer")];
    const names = layers.map((layer) => layer.dataset.label);
    if (layers.length < 2) return;
    const name = viewer.dataset.name;
    const back = make("img", { className: "back", alt: "" });
    const front = make("img", { className: "front", alt: "" });
    const tags = ["left", "right"].map((side) => make("span", { className: `tag ${side}`, ariaHidden: "true" }));
    const slider = make("input", { type: "range", min: 0, max: 100, step: 1, value: 50 });
    const stage = make("div", { className: "stage" }, back, front, ...tags, make("span", { className: "line" }), slider);
    const selects = ["left", "right"].map((side, place) => {
      const select = make("select", { id: `picture-${index}-${side}` }, ...names.map((label, value) => make("option", { value, textContent: label })));
      select.value = viewer.dataset[side];
      return [make("label", { htmlFor: select.id, textContent: place ? "with" : "Compare" }), select];
    });
    const pixels = make("button", { type: "button", textContent: "Pixels", ariaPressed: "false" });
    pixels.setAttribute("aria-label", `Pixels of ${name}`);
    const chosen = (place) => layers[Number(selects[place][1].value)];
    const show = () => {
      const close = pixels.getAttribute("aria-pressed") === "true";
      stage.classList.toggle("pixels", close);
      [front, back].forEach((picture, place) => {
        const layer = chosen(place);
        const full = layer.querySelector(".full");
        const source = (close && layer.querySelector(".piece")) || full;
        picture.src = source.src;
        tags[place].textContent = layer.dataset.label;
      });
      const full = layers[0].querySelector(".full");
      stage.style.aspectRatio = close && layers[0].querySelector(".piece") ? "1" : `${full.width} / ${full.height}`;
      slider.setAttribute("aria-label", `${name}: ${tags[0].textContent} on the left, ${tags[1].textContent} on the right`);
      move();
    };
    const move = () => {
      stage.style.setProperty("--at", `${slider.value}%`);
      slider.setAttribute("aria-valuetext", `${slider.value} % ${tags[0].textContent}, ${100 - slider.value} % ${tags[1].textContent}`);
    };
    slider.addEventListener("input", move);
    selects.forEach(([, select]) => select.addEventListener("change", show));
    pixels.addEventListener("click", () => { pixels.setAttribute("aria-pressed", String(pixels.getAttribute("aria-pressed") !== "true")); show(); });
    // What was there stays, for printing.
    const kept = make("div", { className: "layers", hidden: true }, ...layers);
    viewer.classList.add("live");
    viewer.append(stage, make("div", { className: "controls" }, ...selects.flat(), pixels), kept);
    show();
  });

  // The table: sorted, searched, and a page of it at a time.
  const data = document.getElementById("records-data");
  if (!data) return;
  const { columns, rows } = JSON.parse(data.textContent);
  const table = document.getElementById("records");
  const [head, body] = [table.tHead.rows[0], table.tBodies[0]];
  const [search, status, found] = ["search", "status", "found"].map((id) => document.getElementById(id));
  const [previous, next, where] = ["previous", "next", "page"].map((id) => document.getElementById(id));
  const size = 50;
  const texts = columns.flatMap((column, place) => (column.kind === "text" ? [place] : []));
  const searched = rows.map((row) => texts.map((place) => row[place] ?? "").join("\n").toLowerCase());
  const formats = columns.map((column) => new Intl.NumberFormat("en", { minimumFractionDigits: column.digits ?? 0, maximumFractionDigits: column.digits ?? 0 }));
  const words = new Intl.Collator("en", { numeric: true });
  let [sorted, upwards, page, shown] = [null, true, 0, rows.map((_, place) => place)];

  const cell = (value, place) => {
    const column = columns[place];
    const made = document.createElement(place === 0 ? "th" : "td");
    if (place === 0) made.scope = "row";
    made.className = column.kind === "number" ? "n" : column.name === "status" ? "" : "long";
    made.textContent = value === null || value === undefined ? "" : column.kind === "number" ? formats[place].format(value).replace("-", "−") : value;
    return made;
  };
  const draw = () => {
    const pages = Math.max(1, Math.ceil(shown.length / size));
    page = Math.min(page, pages - 1);
    body.replaceChildren(...shown.slice(page * size, (page + 1) * size).map((row) => make("tr", {}, ...rows[row].map(cell))));
    found.textContent = `${shown.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} records`;
    where.textContent = `Page ${page + 1} of ${pages}`;
    previous.disabled = page === 0;
    next.disabled = page === pages - 1;
  };
  const choose = () => {
    const wanted = search.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const of = status ? status.value : "";
    const place = columns.findIndex((column) => column.name === "status");
    shown = rows.flatMap((row, index) => (wanted.every((word) => searched[index].includes(word)) && (!of || row[place] === of) ? [index] : []));
    if (sorted !== null) {
      const by = (row) => rows[row][sorted];
      const compare = columns[sorted].kind === "number" ? (one, other) => by(one) - by(other) : (one, other) => words.compare(by(one), by(other));
      const empty = (row) => by(row) === null || by(row) === undefined;
      // What is empty comes last, either way.
      shown.sort((one, other) => empty(one) - empty(other) || (empty(one) ? 0 : (upwards ? 1 : -1) * compare(one, other)) || one - other);
    }
    page = 0;
    draw();
  };
  columns.forEach((column, place) => {
    const button = make("button", { type: "button", textContent: column.label });
    const heading = make("th", { scope: "col", className: column.kind === "number" ? "n" : "" }, button);
    button.addEventListener("click", () => {
      upwards = sorted === place ? !upwards : true;
      sorted = place;
      [...head.cells].forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", upwards ? "ascending" : "descending");
      choose();
    });
    head.append(heading);
  });
  search.addEventListener("input", choose);
  if (status) status.addEventListener("change", choose);
  previous.addEventListener("click", () => { page -= 1; draw(); });
  next.addEventListener("click", () => { page += 1; draw(); });
  draw();
})();
