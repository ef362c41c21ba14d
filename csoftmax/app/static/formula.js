// The formula with one picture's numbers in it: o = Wx + b, softmax, loss.
import {el, fixed, percent, short} from "./dom.js";
import {state} from "./state.js";
import {className, t} from "./text.js";

const name = (k) => className(state.data.class_names[k]);

/** Text in which _x and _(abc) are set low, and single Latin letters of the formula in italics. */
function maths(text) {
  const out = el("span", {className: "maths"});
  for (const part of text.split(/(_\([^)]*\)|_\S)/)) {
    if (part.startsWith("_")) out.append(el("sub", {textContent: part.replace(/^_\(?|\)$/g, "")}));
    else out.append(part);
  }
  return out;
}

function termName(key) {
  const place = state.data.picture && /^\((\d+), (\d+)\)$/.exec(key);
  return place ? t("pixel", Number(place[1]) + 1, Number(place[2]) + 1) : String(key);
}

function table(head, rows, className) {
  return el(
    "div",
    {className: "scroll", tabIndex: 0, role: "region", ariaLabel: head.join(", ")},
    el(
      "table",
      {className},
      el("thead", {}, el("tr", {}, ...head.map((text) => el("th", {scope: "col"}, maths(text))))),
      el("tbody", {}, ...rows),
    ),
  );
}

const cells = (...values) => values.map((value) => el("td", {textContent: value}));

function score(answer, k) {
  const {terms, rest} = answer.formula;
  const rows = terms.map((term) => {
    const [key, x, w, product] = term;
    return el(
      "tr",
      {},
      el("th", {scope: "row", textContent: termName(key)}),
      ...cells(fixed(x, 2), fixed(w, 3), fixed(product, 3)),
    );
  });
  const wide = (text, value, kind) =>
    el(
      "tr",
      {className: kind ?? null},
      el("th", {scope: "row", colSpan: 3, textContent: text}),
      ...cells(fixed(value, 3)),
    );
  rows.push(
    wide(t("formula.rest"), rest),
    wide(t("formula.bias"), answer.bias[k]),
    wide(t("formula.logit", name(k)), answer.logits[k], "total"),
  );
  return el(
    "li",
    {},
    el(
      "p",
      {},
      maths("o_k = Σ_i x_i W_(ik) + b_k"),
      el("span", {className: "soft", textContent: ` ${t("formula.score", name(k))}`}),
    ),
    table(
      [t(state.data.picture ? "formula.pixel" : "formula.feature"), "x_i", "W_(ik)", "x_i W_(ik)"],
      rows,
      "numbers",
    ),
  );
}

function softmax(answer, k) {
  const {max, exps, total} = answer.formula;
  let order = answer.logits.map((_, j) => j).sort((a, b) => answer.logits[b] - answer.logits[a]);
  const left = order.length - 10;
  order = order.slice(0, 10);
  const rows = order.map((j) =>
    el(
      "tr",
      {className: j === k ? "total" : null},
      el("th", {scope: "row", textContent: name(j)}),
      ...cells(
        fixed(answer.logits[j], 2),
        fixed(answer.logits[j] - max, 2),
        short(exps[j]),
        percent(answer.probabilities[j], 2),
      ),
    ),
  );
  if (left > 0)
    rows.push(el("tr", {}, el("th", {scope: "row", colSpan: 5, textContent: t("formula.others", left)})));
  return el(
    "li",
    {},
    el(
      "p",
      {},
      maths("ŷ_k = exp(o_k − m) / Σ_j exp(o_j − m)"),
      el("span", {className: "soft", textContent: ` ${t("formula.softmax", fixed(max, 2))}`}),
    ),
    table([t("classes.class"), "o_k", "o_k − m", "exp(o_k − m)", "ŷ_k"], rows, "numbers"),
    el(
      "p",
      {className: "worked"},
      maths(`ŷ = ${short(exps[k])} / ${fixed(total, 3)} = ${percent(answer.probabilities[k], 2)}`),
    ),
  );
}

function loss(answer) {
  const given = answer.label !== null && answer.label !== undefined;
  const labels = given ? [answer.label] : [answer.why.first, answer.why.second];
  return el(
    "li",
    {},
    el("p", {}, maths("l = −log ŷ_y"), el("span", {className: "soft", textContent: ` ${t("formula.loss")}`})),
    given ? null : el("p", {className: "soft", textContent: t("formula.noloss")}),
    ...labels.map((j) =>
      el(
        "p",
        {className: "worked"},
        `${t(given ? "formula.is" : "formula.if", name(j))} `,
        maths(
          `−log ${short(answer.probabilities[j])} = ${fixed(given ? answer.loss : -Math.log(answer.probabilities[j]), 3)}`,
        ),
      ),
    ),
  );
}

/** The three steps as a list, with the numbers of an answer of /why or /predict. */
export function formula(answer) {
  const k = answer.why?.first ?? answer.logits.indexOf(Math.max(...answer.logits));
  return el("ol", {className: "steps"}, score(answer, k), softmax(answer, k), loss(answer));
}
