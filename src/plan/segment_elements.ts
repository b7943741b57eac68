/** Elements of the segments in which a group too large for a chunk is streamed. */
export const SEGMENT_ELEMENTS = 1 << 18;
