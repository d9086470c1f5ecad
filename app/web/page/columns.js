// A growing typed array: compact and fast storage for results of hours of video.

/** @typedef {Float32Array | Float64Array | Uint32Array | Uint16Array} Numbers */

const FIRST_CAPACITY = 64; // small, since each of many tracks has its own columns

/** @template {Numbers} T */
export class Column {
  /** @param {new (length: number) => T} kind */
  constructor(kind) {
    this.kind = kind;
    this.data = new kind(FIRST_CAPACITY);
    this.length = 0;
  }

  /** @param {number} value */
  push(value) {
    this.reserve(1);
    this.data[this.length] = value;
    this.length += 1;
  }

  /**
   * Reserve capacity for this many more values.
   * @param {number} more
   */
  reserve(more) {
    if (this.length + more <= this.data.length) return;
    const grown = new this.kind(Math.max(this.data.length * 2, this.length + more));
    grown.set(this.data);
    this.data = grown;
  }
}

/**
 * The number of values at most `value` among the first `length`, which are in ascending order.
 * @param {ArrayLike<number>} values
 * @param {number} length
 * @param {number} value
 */
export function countUpTo(values, length, value) {
  let low = 0;
  let high = length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (values[middle] <= value) low = middle + 1;
    else high = middle;
  }
  return low;
}
