// Draws each metric's trend against the person's own usual range. Gaps stay gaps; extremes are kept by the server.
"use strict";

(() => {
  const { patient, zone, enrolled } = document.body.dataset;
  const POINTS = 600, HOUR = 3600e3;
  const REFRESH_MS = 60000;
  const charts = new Map();
  let hours = 24;
  const skew = Number(document.body.dataset.now) - Date.now(); // during a time-lapse the present is elsewhere

  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const format = (options) => {
    try { return new Intl.DateTimeFormat("en-GB", { timeZone: zone, ...options }); }
    catch { return new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", ...options }); }
  };
  const clock = format({ hour: "2-digit", minute: "2-digit" });
  const day = format({ day: "numeric", month: "short" });
  const full = format({ day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

  const ticks = (u, splits, axis, space, step) => splits.map((at) => {
    const moment = new Date(at * 1000), time = clock.format(moment);
    return step >= 86400 || time === "00:00" ? day.format(moment) : time;
  });

  const bottom = (band) => Math.max(0, band.low); // two spreads below may pass zero, no vital sign does

  const hatch = (context) => {
    const tile = document.createElement("canvas");
    tile.width = tile.height = 8;
    const pen = tile.getContext("2d");
    pen.strokeStyle = style("--strong");
    pen.globalAlpha = 0.55;
    pen.beginPath();
    pen.moveTo(-2, 10); pen.lineTo(10, -2);
    pen.stroke();
    return context.createPattern(tile, "repeat");
  };

  // Below the lines: usual range, stretches without data, alerts.
  const underlay = (trend) => (u) => {
    const { ctx, bbox } = u;
    const x = (ms) => u.valToPos(ms / 1000, "x", true);
    const y = (value) => u.valToPos(value, "y", true);
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    ctx.fillStyle = style("--band");
    for (const band of trend.band) {
      ctx.globalAlpha = band.learned ? 1 : 0.4; // still learning: mostly what is usual of people
      ctx.fillRect(Math.floor(x(band.from_ms)), y(band.high), Math.ceil(x(band.to_ms)) - Math.floor(x(band.from_ms)), y(bottom(band)) - y(band.high));
    }
    ctx.globalAlpha = 1;
    ctx.fillStyle = hatch(ctx);
    for (const gap of trend.gaps) ctx.fillRect(x(gap.from_ms), bbox.top, x(gap.to_ms) - x(gap.from_ms), bbox.height);
    for (const alert of trend.alerts) {
      if (alert.metric !== trend.metric.key || alert.state === "withdrawn") continue;
      const from = x(Date.parse(alert.started_at));
      const to = x(alert.state === "active" ? Date.parse(trend.to) : Date.parse(alert.resolved_at || alert.last_evidence_at));
      const colour = style(`--${alert.kind === "technical" ? "technical" : alert.priority}`);
      ctx.globalAlpha = 0.1;
      ctx.fillStyle = colour;
      ctx.fillRect(from, bbox.top, Math.max(2, to - from), bbox.height);
      ctx.globalAlpha = 1;
      ctx.fillRect(from, bbox.top, Math.max(3, to - from), 3 * devicePixelRatio);
      ctx.fillRect(from, bbox.top, devicePixelRatio, bbox.height);
    }
    ctx.restore();
  };

  const limits = (trend) => {
    let low = trend.lowest ?? Infinity, high = trend.highest ?? -Infinity;
    for (const band of trend.band) { low = Math.min(low, bottom(band)); high = Math.max(high, band.high); }
    if (!Number.isFinite(low)) return [0, 1];
    const room = (high - low) * 0.08 || 1;
    return [low - room, high + room];
  };

  const say = (trend) => {
    const { decimals, unit_words: unit } = trend.metric;
    if (!trend.readings) return "no data in this span";
    const gaps = trend.gaps.length ? ` · ${trend.gaps.length} gap${trend.gaps.length > 1 ? "s" : ""}` : "";
    const source = trend.sources.some((part) => part.source !== "readings") ? ` · by the ${trend.sources[0].source}` : "";
    return `lowest ${trend.lowest.toFixed(decimals)}, highest ${trend.highest.toFixed(decimals)} ${unit}${gaps}${source}`;
  };

  const draw = (figure, trend) => {
    const place = figure.querySelector(".plot");
    const said = say(trend);
    figure.querySelector(".said").textContent = said;
    place.setAttribute("aria-label", `Trend of ${trend.metric.title}: ${said}`);
    const axis = { stroke: style("--soft"), grid: { stroke: style("--grid"), width: 1 }, ticks: { show: false }, font: `11px ${getComputedStyle(document.body).fontFamily}` };
    const line = { stroke: style("--measure"), width: 1.4, spanGaps: false, points: { show: trend.times_ms.length < 40, size: 4, fill: style("--measure") } };
    const edge = { stroke: "transparent", width: 0, spanGaps: false, points: { show: false } };
    const options = {
      width: place.clientWidth, height: place.clientHeight,
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), zone),
      scales: { x: { range: [Date.parse(trend.from) / 1000, Date.parse(trend.to) / 1000] }, y: { range: limits(trend) } },
      axes: [{ ...axis, values: ticks, space: 64, size: 26 }, { ...axis, size: 42, space: 22 }],
      series: [{}, { ...line }, { ...edge }, { ...edge }],
      bands: [{ series: [3, 2], fill: style("--range") }],
      legend: { show: false },
      cursor: { sync: { key: "trends" }, y: false, drag: { x: false, y: false }, points: { size: 6, fill: style("--measure") } },
      hooks: {
        drawClear: [underlay(trend)],
        setCursor: [(u) => {
          const at = u.cursor.idx, value = at == null ? null : u.data[1][at];
          figure.querySelector(".said").textContent = value == null ? said
            : `${full.format(new Date(u.data[0][at] * 1000))} · ${value.toFixed(trend.metric.decimals)} ${trend.metric.unit_words}`;
        }],
      },
    };
    charts.get(figure)?.destroy();
    place.replaceChildren();
    const seconds = trend.times_ms.map((ms) => ms / 1000);
    charts.set(figure, new uPlot(options, [seconds, trend.mean, trend.low, trend.high], place));
  };

  const load = async (figure) => {
    const to = Date.now() + skew;
    const from = hours ? to - hours * HOUR : Math.min(Date.parse(enrolled), to - HOUR);
    const query = new URLSearchParams({ metric: figure.dataset.metric, from: new Date(from).toISOString(), to: new Date(to).toISOString(), points: POINTS });
    try {
      const answer = await fetch(`/v1/patients/${encodeURIComponent(patient)}/trends?${query}`, { cache: "no-store" });
      if (!answer.ok) throw new Error((await answer.json()).detail);
      figure.trend = await answer.json();
      draw(figure, figure.trend);
      figure.dataset.drawn = String(hours);
    } catch (error) {
      figure.querySelector(".said").textContent = `could not be read: ${error.message}`;
    }
  };

  const figures = [...document.querySelectorAll("figure.trend")];
  const all = () => Promise.all(figures.map(load));
  const buttons = [...document.querySelectorAll(".ranges button")];
  for (const button of buttons) {
    button.addEventListener("click", () => {
      hours = Number(button.dataset.hours);
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
      all();
    });
  }
  const redraw = () => figures.forEach((figure) => figure.trend && draw(figure, figure.trend));
  let waiting = 0;
  new ResizeObserver(() => { clearTimeout(waiting); waiting = setTimeout(redraw, 120); }).observe(document.querySelector(".trends"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  document.body.addEventListener("alert-change", () => { clearTimeout(waiting); waiting = setTimeout(all, 400); });
  setInterval(all, REFRESH_MS);
  all();
})();
