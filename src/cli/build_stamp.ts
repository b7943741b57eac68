/** The sources that a binary was built from. Here it is null: `scripts/support/stage.ts` writes the real one. */

/** Commit and kernels of a build. */
export interface BuildStamp {
  /** Abbreviated commit; `+` after it if the checkout had changes; `unknown` outside of git. */
  readonly commit: string;
  /** First 12 hexadecimal digits of the SHA-256 of the WASM and WGSL kernels. */
  readonly kernels: string;
}

export const BUILD: BuildStamp | null = null;
