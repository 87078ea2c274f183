"use strict";
(() => {
  const find = (id) => document.getElementById(id);
  const source = find("pictures")?.textContent;
  if (!source || !("DecompressionStream" in window)) return; // the strips below show the images as they are
  const groups = JSON.parse(source);
  const slider = find("eps");
  const choice = find("attacked");
  let group, row, place = 0, stop = 0; // what is shown: a row of a group, the place of its example, the eps's number

  // Pixels come deflated; each is unpacked once, when it is first looked at.
  const unpacked = new Map();
  const pixels = (text) => {
    if (!unpacked.has(text)) {
      const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
      unpacked.set(text, new Response(stream).arrayBuffer().then((buffer) => new Uint8Array(buffer)));
    }
    return unpacked.get(text);
  };

  const paint = (canvas, [height, width, channels], value) => {
    canvas.width = width;
    canvas.height = height;
    const image = new ImageData(width, height);
    for (let at = 0; at < width * height; at++) {
      for (let colour = 0; colour < 3; colour++)
        image.data[4 * at + colour] = value(channels === 3 ? 3 * at + colour : at);
      image.data[4 * at + 3] = 255;
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
  };

  // The largest change just reaches black or white; by a whole number, unless it is too large for that.
  const magnification = (added) => {
    const largest = added.reduce((most, each) => Math.max(most, Math.abs(each)), 0);
    const exact = largest ? 127.5 / largest : 1;
    return exact < 1 ? exact : Math.floor(exact + 0.01);
  };

  const named = (number) => group.classes[number];
  const percent = (thousandths) => `${(thousandths / 10).toFixed(1)} %`;

  const outcome = (said, clean, label) => {
    if (said === clean && stop === 0) return said[0] === label ? ["good", "✓ right"] : ["bad", "✗ wrong"];
    if (said[0] === label) return ["good", "✓ holds"];
    return clean[0] === label ? ["bad", "✗ fooled"] : ["muted", "○ wrong already"];
  };

  const bar = (number, share, label) => {
    const line = document.createElement("li");
    const [name, track, figure] = ["span", "span", "span"].map((tag) => line.appendChild(document.createElement(tag)));
    name.textContent = name.title = named(number);
    if (number === label) {
      line.className = "true";
      name.prepend(Object.assign(document.createElement("small"), { textContent: "true " })); // never cut off
    }
    track.className = "meter";
    track.setAttribute("aria-hidden", "true");
    track.appendChild(document.createElement("span")).style.width = `${share / 10}%`;
    figure.textContent = percent(share);
    return line;
  };

  // What one model says of the example at this eps, under its own attack; whether it is fooled.
  const say = (item, member) => {
    const { label } = group.images[place];
    const [mark, bars] = [item.querySelector(".mark"), item.querySelector(".bars")];
    const frame = member.at.indexOf(stop);
    if (frame < 0) {
      mark.className = "mark muted";
      mark.textContent = "not attacked at this eps";
      bars.replaceChildren();
      return false;
    }
    const said = member.said[place][frame];
    const [kind, words] = outcome(said, member.said[place][0], label);
    mark.className = `mark ${kind}`;
    mark.textContent = said[0] === label ? words : `${words}: ${named(said[0])}`;
    const others = [];
    for (let at = 2; at < said.length; at += 2) others.push(bar(said[at], said[at + 1], label));
    bars.replaceChildren(bar(label, said[1], label), ...others);
    return words === "✗ fooled";
  };

  const sayAll = () => {
    let fooled = 0;
    const list = document.querySelector(".models");
    for (const item of list.querySelectorAll("[data-model]")) {
      const member = group.rows.find((each) => each.row === Number(item.dataset.model));
      item.hidden = !member;
      item.classList.toggle("chosen", member === row);
      if (member) fooled += say(item, member);
    }
    return fooled;
  };

  const show = async () => {
    const frame = row.at.indexOf(stop);
    const eps = group.eps[stop];
    const example = group.images[place];
    const fooled = sayAll();
    const said = row.said[place][frame];
    const about = `${row.name} at ${stop ? `eps ${eps}` : "eps 0, the clean image"}`;
    const words = outcome(said, row.said[place][0], example.label)[1];
    const others = group.rows.length > 1 && stop ? ` Fooled in all: ${fooled} of ${group.rows.length} models.` : "";
    find("eps-now").textContent = stop ? eps : "0 (clean)";
    slider.setAttribute("aria-valuetext", stop ? `${eps}: ${words}` : "0, the clean image");
    find("told").textContent = `${about}: ${words}, says ${named(said[0])}; it is ${named(example.label)}.${others}`;

    const [clean, added] = await Promise.all([pixels(example.clean), pixels(row.added[place])]);
    if (row.at[frame] !== stop || example !== group.images[place]) return; // something else was chosen meanwhile
    const from = (frame - 1) * clean.length;
    const attacked = stop ? clean.map((each, at) => each + added[from + at]) : clean; // bytes wrap around, as packed
    const change = Int16Array.from(attacked, (each, at) => each - clean[at]);
    const factor = magnification(change);
    paint(find("attacked-image"), group.shape, (at) => attacked[at]);
    paint(find("added-image"), group.shape, (at) => 127.5 + factor * change[at]);
    const times = factor < 1 ? factor.toFixed(2) : factor;
    find("factor").textContent = stop ? `what is added, × ${times}` : "nothing is added";
    find("attacked-image").setAttribute("aria-label", `Example ${example.id}, a ${named(example.label)}, at eps ${eps}`);
    find("added-image").setAttribute("aria-label", stop ? `What the attack adds, magnified ${times} times` : "Nothing");
  };

  const pick = (at) => {
    place = at;
    show();
  };

  const thumb = (example, at) => {
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), { type: "radio", name: "image", value: at });
    input.checked = at === place;
    input.addEventListener("change", () => pick(at));
    const canvas = document.createElement("canvas");
    canvas.setAttribute("aria-hidden", "true");
    const words = document.createElement("span");
    words.textContent = `${named(example.label)} `;
    words.append(Object.assign(document.createElement("small"), { textContent: `no. ${example.id}` }));
    label.append(input, canvas, words);
    pixels(example.clean).then((clean) => paint(canvas, group.shape, (pixel) => clean[pixel]));
    return label;
  };

  const chooseGroup = (chosen) => {
    group = chosen;
    place = Math.min(place, group.images.length - 1);
    find("thumbs").replaceChildren(...group.images.map(thumb));
    const parts = [];
    if (group.scale > 1) parts.push(`Images at 1/${group.scale} of their size.`);
    if (group.images.length < group.total) parts.push(`${group.images.length} of the ${group.total} that were kept.`);
    find("cut").textContent = parts.join(" ");
  };

  // Another model keeps the eps if it was attacked at it, else the nearest below.
  const chooseRow = (number) => {
    const eps = group?.eps[stop];
    const found = groups.find((each) => each.rows.some((member) => member.row === number));
    if (found !== group) chooseGroup(found);
    row = group.rows.find((member) => member.row === number);
    const wanted = Math.max(0, group.eps.indexOf(eps));
    slider.max = row.at.length - 1;
    slider.value = row.at.filter((each) => each <= wanted).length - 1;
    stop = row.at[slider.value];
    show();
  };

  slider.addEventListener("input", () => {
    stop = row.at[slider.value];
    show();
  });
  choice.addEventListener("change", () => chooseRow(Number(choice.value)));
  find("explorer").hidden = false;
  document.querySelector(".strips").open = false;
  choice.value = choice.options[0].value; // whatever the browser remembers of the last visit
  chooseRow(Number(choice.value));
  const middle = Math.ceil((row.at.length - 1) / 2); // something is to be seen at once
  slider.value = middle;
  stop = row.at[middle];
  show();
})();
