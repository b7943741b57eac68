/** Returns what the statistics of one expert of a bank are called: `mlp.experts.down_proj.3`. */
export function expertName(layer: string, expert: number): string {
  return `${layer}.${expert}`;
}
