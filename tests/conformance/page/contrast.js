// Contrast of every text that can be seen with what lies behind it, by WCAG 2.2, and those that are weaker than AA wants.
() => {
  const parse = (text) => {
    const found = text.match(/[\d.]+/g).map(Number);
    return text.startsWith("color(srgb") ? [...found.slice(0, 3).map((part) => part * 255), found[3] ?? 1] : [...found.slice(0, 3), found[3] ?? 1];
  };
  const over = (top, under) => [0, 1, 2].map((at) => top[at] * top[3] + under[at] * (1 - top[3])).concat(1);
  const light = (colour) => {
    const [r, g, b] = colour.map((part) => (part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    const layers = [];
    const start = element.closest("[data-testid=stSlider]") ?? element; // a slider's figure stands above its thumb, not on it
    for (let one = start; one; one = one.parentElement) layers.push(parse(getComputedStyle(one).backgroundColor));
    return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255, 1]);
  };
  const opacity = (element) => {
    let product = 1;
    for (let one = element; one; one = one.parentElement) product *= Number(getComputedStyle(one).opacity);
    return product;
  };
  const weak = [];
  let texts = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.textContent.trim() || !element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    if (element.closest("script, style, noscript, :disabled, [aria-disabled=true], .katex-mathml, [data-testid=stIconMaterial]")) continue;
    if (element.closest("label")?.querySelector(":disabled")) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const box = range.getBoundingClientRect();
    if (box.width < 2 || box.height < 2) continue;
    texts += 1;
    const style = getComputedStyle(element);
    const behind = ground(element);
    const colour = parse(style.color);
    colour[3] *= opacity(element);
    const [a, b] = [light(over(colour, behind)), light(behind)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const size = parseFloat(style.fontSize);
    const wanted = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
    if (ratio < wanted) weak.push([node.textContent.trim().slice(0, 40), ratio.toFixed(2), style.color, behind.slice(0, 3).map(Math.round).join(" "), element.className.slice?.(0, 40)]);
  }
  return { texts, weak };
}
