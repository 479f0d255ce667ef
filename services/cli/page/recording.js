// Draws each metric of a recording with the person's own usual range and the numbered findings. Loads nothing.
"use strict";

(() => {
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
  const two = (number) => String(number).padStart(2, "0");

  // The wearer's local time, read as UTC.
  const local = (chart, ms) => {
    const known = chart.offsets.filter(([from]) => from <= ms);
    const [, minutes] = known.length ? known[known.length - 1] : chart.offsets[0];
    return new Date(ms + minutes * 60e3);
  };
  const clock = (at) => `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}`;
  const date = (at) => `${at.getUTCDate()} ${MONTHS[at.getUTCMonth()]}`;

  // Below the lines: usual range, then findings with their numbers.
  const underlay = (chart) => (u) => {
    const { ctx, bbox } = u;
    const x = (ms) => u.valToPos(ms / 1000, "x", true);
    const y = (value) => u.valToPos(value, "y", true);
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    ctx.fillStyle = style("--band");
    for (const band of chart.band) {
      const left = Math.floor(x(band.from));
      ctx.fillRect(left, y(band.high), Math.ceil(x(band.to)) - left, y(Math.max(0, band.low)) - y(band.high));
    }
    ctx.font = `600 ${11 * devicePixelRatio}px ${getComputedStyle(document.body).fontFamily}`;
    ctx.textBaseline = "top";
    for (const finding of chart.findings) {
      const from = x(finding.from), width = Math.max(3 * devicePixelRatio, x(finding.to) - from);
      ctx.fillStyle = style(`--${finding.priority}`);
      ctx.globalAlpha = 0.1;
      ctx.fillRect(from, bbox.top, width, bbox.height);
      ctx.globalAlpha = 1;
      ctx.fillRect(from, bbox.top, width, 3 * devicePixelRatio);
      ctx.fillText(String(finding.number), from + 3 * devicePixelRatio, bbox.top + 6 * devicePixelRatio);
    }
    ctx.restore();
  };

  const bounds = (chart) => {
    const seen = [...chart.low, ...chart.high].filter((value) => value !== null);
    for (const band of chart.band) seen.push(Math.max(0, band.low), band.high);
    const low = seen.reduce((a, b) => Math.min(a, b), Infinity), high = seen.reduce((a, b) => Math.max(a, b), -Infinity);
    if (!Number.isFinite(low)) return [0, 1];
    const room = (high - low) * 0.08 || 1;
    return [low < 0 ? low - room : Math.max(0, low - room), high + room];
  };

  const draw = (figure, chart) => {
    const place = figure.querySelector(".plot"), said = figure.querySelector(".said");
    const how = chart.by_the_hour ? "by the hour" : "every reading";
    said.textContent = how;
    const axis = { stroke: style("--soft"), grid: { stroke: style("--grid"), width: 1 }, ticks: { show: false }, font: `11px ${getComputedStyle(document.body).fontFamily}` };
    const line = { stroke: style("--measure"), width: 1.3, spanGaps: false, points: { show: chart.t.length < 60, size: 4, fill: style("--measure") } };
    const edge = { stroke: "transparent", width: 0, spanGaps: false, points: { show: false } };
    const ticks = (u, splits, of, space, step) => splits.map((at) => {
      const moment = local(chart, at * 1000);
      return step >= 86400 || clock(moment) === "00:00" ? date(moment) : clock(moment);
    });
    figure.plot?.destroy();
    figure.plot = new uPlot({
      width: place.clientWidth, height: place.clientHeight,
      tzDate: (seconds) => { const at = local(chart, seconds * 1000); return new Date(at.getTime() + at.getTimezoneOffset() * 60e3); },
      scales: { x: { range: (u, low, high) => (u.status ? [low, high] : [chart.from / 1000, chart.to / 1000]) }, y: { range: bounds(chart) } },
      axes: [{ ...axis, values: ticks, space: 64, size: 26 }, { ...axis, size: 46, space: 24 }],
      series: [{}, line, edge, edge],
      bands: [{ series: [3, 2], fill: style("--range") }],
      legend: { show: false },
      cursor: { y: false, drag: { x: true, y: false }, points: { size: 6, fill: style("--measure") } },
      hooks: {
        drawClear: [underlay(chart)],
        setCursor: [(u) => {
          const at = u.cursor.idx, value = at == null ? null : u.data[1][at];
          const moment = at == null ? null : local(chart, u.data[0][at] * 1000);
          said.textContent = value == null ? how : `${date(moment)} ${clock(moment)} · ${value.toFixed(chart.decimals)} ${chart.unit}`;
        }],
      },
    }, [chart.t.map((ms) => ms / 1000), chart.mean, chart.low, chart.high], place);
  };

  const figures = [...document.querySelectorAll("figure.trend")].map((figure) => [figure, JSON.parse(figure.querySelector("script").textContent)]);
  const all = () => figures.forEach(([figure, chart]) => draw(figure, chart));
  let waiting = 0;
  addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(all, 120); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", all);
  all();
})();
