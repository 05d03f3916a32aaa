// Figures and times for people. Units are always part of the text.

const COUNT = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });

/** `digits` after the point, here and below: as many at most, where the usual ones are too few. */
export function count(value: number | null | undefined, digits?: number): string {
  if (value === null || value === undefined) return '–';
  return digits === undefined ? COUNT.format(value) : decimal(value, digits);
}

const decimal = (value: number, digits: number): string => new Intl.NumberFormat('en', { maximumFractionDigits: digits }).format(value);

/** `1 connection`, `1,204 connections`. */
export function plural(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}

/** Below it, one digit after the point would say 0.1 or nothing. */
const RATE_SMALL = 0.095;

export function rate(value: number | null | undefined, unit = '/s', digits?: number): string {
  if (value === null || value === undefined) return '–';
  const size = Math.abs(value);
  if (digits === undefined && size > 0 && size < RATE_SMALL) return `${new Intl.NumberFormat('en', { maximumSignificantDigits: 1 }).format(value)} ${unit}`;
  return `${decimal(value, digits ?? (size < 10 ? 1 : 0))} ${unit}`;
}

export function bytes(value: number | null | undefined, digits?: number): string {
  if (value === null || value === undefined) return '–';
  const units = ['B', 'KB', 'MB', 'GB', 'TB'];
  let place = 0;
  let scaled = value;
  while (scaled >= 1000 && place < units.length - 1) {
    scaled /= 1000;
    place += 1;
  }
  if (digits !== undefined) return `${decimal(scaled, digits)} ${units[place]}`;
  return `${place > 0 && scaled < 10 ? scaled.toFixed(1) : Math.round(scaled)} ${units[place]}`;
}

export function millis(value: number | null | undefined, digits?: number): string {
  if (value === null || value === undefined) return '–';
  if (digits !== undefined) return value >= 10_000 ? `${decimal(value / 1000, digits)} s` : `${decimal(value, digits)} ms`;
  if (value >= 10_000) return `${(value / 1000).toFixed(1)} s`;
  return value < 10 && value !== Math.round(value) ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`;
}

export type Format = (value: number | null | undefined, digits?: number) => string;
const TICK_DIGITS_MAX = 6;

/** The labels of an axis: with as many digits as it takes to say what the values are, which are round. */
export function ticks(values: number[], format: Format): string[] {
  const figure = (label: string) => parseFloat(label.replaceAll(',', ''));
  const exact = values.map((value) => figure(format(value, TICK_DIGITS_MAX)));
  for (let digits: number | undefined = undefined; ; digits = (digits ?? 0) + 1) {
    const labels = values.map((value) => format(value, digits));
    if ((digits ?? 0) >= TICK_DIGITS_MAX || labels.every((label, place) => figure(label) === exact[place])) return labels;
  }
}

export function percent(share: number): string {
  return `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`;
}

/** `3 s`, `12 min`, `4 h 5 min`, `3 d 2 h`. */
export function span(ofMillis: number): string {
  const seconds = Math.max(0, Math.round(ofMillis / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  const days = Math.floor(hours / 24);
  return hours % 24 && days < 10 ? `${days} d ${hours % 24} h` : `${days} d`;
}

/** Local date and time, to the second. */
export function moment(time: string | number): string {
  const date = new Date(time);
  const pad = (value: number) => String(value).padStart(2, '0');
  const day = `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
  return `${day} ${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
}

export function clockTime(time: number): string {
  const date = new Date(time);
  const text = date.toTimeString().slice(0, 8);
  return `${text}.${String(date.getMilliseconds()).padStart(3, '0')}`;
}
