/** The fields of the page for the flags that messages of the program name. Pure. */

/** Words about a flag, and the words of the page. */
const WORDS: readonly (readonly [flag: RegExp, field: string])[] = [
  [
    /`--requantize` to dequantize it first/,
    'tick "If the model is quantized already" under "More options" to restore its weights first',
  ],
  [
    /`--nonfinite keep` keeps such tensors in their dtype/,
    'tick "Keep layers that hold NaN or infinity" under "More options" to keep them as they are',
  ],
  [
    /`--lora` quantizes the LoRA itself/,
    'to use it, choose the model above and add the LoRA under "Files to add"',
  ],
  [/, or `--preset none` to convert it all the same/, ""],
  [/leave out --calibration-data, or calibrate again/, "choose other data, or none"],
  [/ of excludeLayers: /, ' of "Also keep layers" under "More options": '],
  [/ for merge\.scale: /, ' for "Strength" under "Files to add": '],
  [
    /`--dry-run` gives the reason for each tensor, `--allow-copy` writes the copy/,
    'choose another format, or fewer layers to keep under "More options"',
  ],
];

/** Returns a message of the program with the fields of the page instead of flags. */
export function inWords(message: string): string {
  return WORDS.reduce((text, [flag, field]) => text.replace(flag, field), message);
}
