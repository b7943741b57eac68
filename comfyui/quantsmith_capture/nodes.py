"""The two nodes: they return the model or text encoder that they take, with a capture around it."""

import functools
import logging
import os
import re

import comfy.patcher_extension
import comfy.utils
import folder_paths

from .layer_names import match_layers, weight_shapes
from .session import CaptureRefused, Session, linear_modules

log = logging.getLogger("quantsmith")
KEY = "quantsmith_capture"

# Captures go on while the program runs, whichever node made them: by path of the file.
_SESSIONS = {}


def _inputs(kind, what):
    return {
        "required": {
            kind.lower(): (kind,),
            "name": ("STRING", {"default": "calibration", "tooltip": "Name of the file in output/calibration"}),
            "enabled": ("BOOLEAN", {"default": True, "tooltip": "Off: nothing is recorded, the file stays"}),
            "rows": ("INT", {"default": 1024, "min": 16, "max": 65536, "tooltip": "Rows that are kept per layer"}),
            "runs": (
                "INT",
                {"default": 16, "min": 0, "max": 100000, "tooltip": f"{what} until the capture is complete; 0: no end"},
            ),
            "memory_gb": (
                "FLOAT",
                {"default": 4.0, "min": 0.1, "max": 1024.0, "step": 0.1, "tooltip": "RAM for rows, at most"},
            ),
            "mode": (["continue", "start over"], {"tooltip": "Go on with the file of this name, or begin anew"}),
            "moments": (
                "BOOLEAN",
                {"default": False, "tooltip": "Sum up second moments, too, a few layers in each run: large files"},
            ),
            "moments_gb": (
                "FLOAT",
                {"default": 2.0, "min": 0.1, "max": 1024.0, "step": 0.1,
                 "tooltip": "Memory of the second moments of one run, on the device and in RAM"},
            ),
        },
        "hidden": {"unique_id": "UNIQUE_ID"},
    }


def _file_of(name):
    if not re.fullmatch(r"[\w][\w .\-]*", name):
        raise CaptureRefused(f'"{name}" is no file name: use letters, digits, spaces, dots and dashes')
    stem = name[: -len(".calibration.safetensors")] if name.endswith(".calibration.safetensors") else name
    return os.path.join(folder_paths.get_output_directory(), "calibration", f"{stem}.calibration.safetensors")


def _checkpoint_paths(patcher):
    """The files that ComfyUI's own loaders read the model from; [] if a loader of others does not say."""
    init = getattr(patcher, "cached_patcher_init", None)
    source = init[1][0] if init is not None and init[1] else None
    paths = source if isinstance(source, (list, tuple)) else [source]
    return [os.fspath(p) for p in paths if isinstance(p, (str, os.PathLike)) and os.path.isfile(p)]


def _identity(paths):
    if not paths:
        return {"file": None}
    return {"file": ", ".join(os.path.basename(p) for p in paths), "bytes": sum(os.path.getsize(p) for p in paths)}


def _renamed(model, shapes):
    """What ComfyUI renames and fuses in a diffusers file: the map that fits the file's names best."""
    config = dict(getattr(getattr(model, "model_config", None), "unet_config", None) or {})
    best, hits = None, 0
    for name in dir(comfy.utils):
        if not name.endswith("_to_diffusers"):
            continue
        try:
            renamed = getattr(comfy.utils, name)(config)
        except (KeyError, TypeError, IndexError, AttributeError):
            continue  # the map of another family wants other settings
        fitting = sum(1 for stored in renamed if stored in shapes)
        if fitting > hits:
            best, hits = renamed, fitting
    return best


def _layers_of(modules, paths, model=None):
    shapes = {name: shape for path in paths for name, shape in weight_shapes(path).items()}
    sizes = {name: tuple(module.weight.shape) for name, module in modules.items()}
    layers, missing = match_layers(sizes, shapes)
    if missing and model is not None:
        renamed = _renamed(model, shapes)
        if renamed is not None:
            layers, missing = match_layers(sizes, shapes, renamed)
    if not layers:
        raise CaptureRefused(
            f"none of the model's layers is found in {', '.join(paths)} by its name, {missing[0]} for one: "
            "load the model from the file that is to be quantized"
        )
    if missing:
        log.warning(
            "quantsmith: %d of %d layers have no weight of their name in the file and are left out: %s",
            len(missing), len(modules), ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else ""),
        )
    return layers


def _session(path, root, patcher, model, *, rows, runs, memory_gb, moments, moments_gb, mode, modules=None):
    modules = modules or linear_modules(root)
    paths = _checkpoint_paths(patcher)
    if not paths:
        log.warning("quantsmith: the loader does not say which file it read: layers get the names of ComfyUI's modules")
    known = _SESSIONS.get(path)
    identity = _identity(paths)
    moment_bytes = int(moments_gb * 1e9) if moments else 0
    is_same = known is not None and [known.model, known.asked_rows, known.moment_bytes] == [identity, rows, moment_bytes]
    if is_same and mode == "continue" and (known.runs == runs or moment_bytes == 0):
        known.attach(modules)
        known.runs = runs
        return known
    session = Session(
        path, modules, _layers_of(modules, paths, model),
        model=identity, rows=rows, runs=runs, memory_bytes=memory_gb * 1e9,
        moment_bytes=moment_bytes, start_over=mode == "start over",
    )
    _SESSIONS[path] = session
    return session


def _show(text, node_id):
    log.info("quantsmith: %s", text)
    try:
        from server import PromptServer
    except ImportError:  # without the web server (scripts, tests) the log has it
        return
    instance = getattr(PromptServer, "instance", None)
    if instance is not None and node_id is not None:
        instance.send_progress_text(text, node_id)


class CaptureModelCalibration:
    """Records what the linear layers of a diffusion model take in while images are made."""

    DESCRIPTION = "Records inputs of the model's layers while you make images, for quantsmith --calibration-data."
    CATEGORY = "quantsmith"
    FUNCTION = "capture"
    RETURN_TYPES = ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls):
        return _inputs("MODEL", "Images (runs of a sampler)")

    def capture(
        self, model, name, enabled, rows, runs, memory_gb, mode, moments=False, moments_gb=2.0, unique_id=None
    ):
        if not enabled:
            return (model,)
        session = _session(
            _file_of(name), model.model.diffusion_model, model, model.model,
            rows=rows, runs=runs, memory_gb=memory_gb, moments=moments, moments_gb=moments_gb, mode=mode,
        )
        clone = model.clone()
        wrappers = comfy.patcher_extension.WrappersMP
        clone.add_wrapper_with_key(wrappers.OUTER_SAMPLE, KEY, functools.partial(_outer_sample, session, unique_id))
        clone.add_wrapper_with_key(wrappers.APPLY_MODEL, KEY, functools.partial(_apply_model, session))
        _show(session.status(), unique_id)
        return (clone,)


def _outer_sample(session, node_id, executor, *args, **kwargs):
    if session.is_complete:
        return executor(*args, **kwargs)
    session.begin()
    try:
        return executor(*args, **kwargs)
    finally:
        session.end()
        _show(session.status(), node_id)


def _apply_model(session, executor, x, t, *args, **kwargs):
    result = executor(x, t, *args, **kwargs)
    if not session.is_complete:
        session.recorder.flush_rows()
        session.see_sigma(t.flatten()[0])
    return result


class CaptureClipCalibration:
    """Records what the linear layers of a text encoder take in while prompts are encoded."""

    DESCRIPTION = "Records inputs of the text encoder's layers while prompts are encoded, for quantsmith --calibration-data."
    CATEGORY = "quantsmith"
    FUNCTION = "capture"
    RETURN_TYPES = ("CLIP",)

    @classmethod
    def INPUT_TYPES(cls):
        return _inputs("CLIP", "Prompts")

    def capture(
        self, clip, name, enabled, rows, runs, memory_gb, mode, moments=False, moments_gb=2.0, unique_id=None
    ):
        if not enabled:
            return (clip,)
        session = _session(
            _file_of(name), clip.cond_stage_model, clip.patcher, None,
            rows=rows, runs=runs, memory_gb=memory_gb, moments=moments, moments_gb=moments_gb, mode=mode,
        )
        clone = clip.clone()
        # The encoder is no model that a sampler wraps: its method is replaced while this clone is loaded.
        clone.patcher.set_injections(KEY, [_encoder_injection(session, unique_id)])
        _show(session.status(), unique_id)
        return (clone,)


def _encoder_injection(session, node_id):
    def inject(patcher):
        model = patcher.model
        plain = model.encode_token_weights

        @functools.wraps(plain)
        def encode_token_weights(*args, **kwargs):
            if session.is_complete:
                return plain(*args, **kwargs)
            session.begin()
            try:
                return plain(*args, **kwargs)
            finally:
                session.end()
                _show(session.status(), node_id)

        model.encode_token_weights = encode_token_weights

    def eject(patcher):
        patcher.model.__dict__.pop("encode_token_weights", None)

    return comfy.patcher_extension.PatcherInjection(inject=inject, eject=eject)


NODE_CLASS_MAPPINGS = {
    "QuantsmithCaptureModel": CaptureModelCalibration,
    "QuantsmithCaptureClip": CaptureClipCalibration,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "QuantsmithCaptureModel": "Capture calibration (model)",
    "QuantsmithCaptureClip": "Capture calibration (text encoder)",
}
