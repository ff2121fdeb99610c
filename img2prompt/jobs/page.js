"use strict";
// Sortable tables and long lists. Only what is on the page is moved or hidden; nothing is loaded or made of text.

for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    if (!head.textContent.trim()) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    const number = head.classList.contains("number");
    const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
    button.addEventListener("click", () => {
      // The first click brings numbers largest first and words in the order of the alphabet.
      const before = head.getAttribute("aria-sort");
      const down = before ? before === "ascending" : number;
      const sign = down ? -1 : 1;
      const measure = (row) => value(row) === "" ? sign * Infinity : Number(value(row)); // what is missing comes last
      const rows = [...body.rows].sort((a, b) =>
        number ? sign * (measure(a) - measure(b)) || 0 : sign * value(a).localeCompare(value(b)));
      body.append(...rows);
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
    });
  });
}

for (const browse of document.querySelectorAll(".browse")) {
  const PAGE = 25;
  const list = browse.querySelector(".items");
  const items = [...list.children];
  const texts = items.map((item) => item.textContent.toLowerCase());
  const search = browse.querySelector("input");
  const order = browse.querySelector("select");
  const count = browse.querySelector("output");
  const [back, next] = browse.querySelectorAll("button");
  let found = items;
  let page = 0;

  const show = () => {
    const last = Math.max(0, Math.ceil(found.length / PAGE) - 1);
    page = Math.min(Math.max(page, 0), last);
    list.replaceChildren(...found.slice(page * PAGE, (page + 1) * PAGE));
    back.disabled = page === 0;
    next.disabled = page === last;
    const first = page * PAGE + 1;
    count.textContent = found.length
      ? `${first}\u2013${Math.min(first + PAGE - 1, found.length)} of ${found.length.toLocaleString("en")}`
      : "none found";
  };
  const find = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const kept = items.filter((_, place) => words.every((word) => texts[place].includes(word)));
    const [key, sign] = order.value.split(" ");
    found = kept.sort((a, b) => Number(sign) * (a.dataset[key] - b.dataset[key]));
    page = 0;
    show();
  };
  const turn = (step) => {
    page += step;
    show();
    if (list.getBoundingClientRect().top < 0) browse.scrollIntoView();
  };
  // A link to an item that another page of the list holds, or that the search left out, brings it here first.
  for (const link of document.querySelectorAll('a[href^="#"]')) {
    const item = items.find((one) => one.id && one.id === link.hash.slice(1));
    if (!item) continue;
    link.addEventListener("click", () => {
      if (!found.includes(item)) {
        search.value = "";
        find();
      }
      page = Math.floor(found.indexOf(item) / PAGE);
      show();
    });
  }
  search.addEventListener("input", find);
  order.addEventListener("change", find);
  back.addEventListener("click", () => turn(-1));
  next.addEventListener("click", () => turn(1));
  browse.querySelector(".controls").hidden = false;
  find();
}
