"""Make data/drums.npz: single strokes of Sonic Pi's samples at 8 kHz, 4,096 samples each, with a held-out part.

    python scripts/build/drums.py FILE

FILE is the Debian package sonic-pi-samples (``apt-get download sonic-pi-samples``). Its copyright file says of every
sound who gave it away; only those under CC0 are taken. ffmpeg (imageio-ffmpeg) reads FLAC and makes the new rate.
"""

import hashlib
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from devilgan_lite.data.audio import CLIP, DRUMS, RATE

DATA = Path(__file__).resolve().parents[2] / "data"
SOUNDS, COPYRIGHT = "usr/share/sonic-pi/samples", "usr/share/doc/sonic-pi-samples/copyright"
FADE = 512  # samples at the end of a stroke that is longer than a clip
HELD_OUT = 4  # every fourth source of a class
SOURCES = {
    "kick": "bd_808 bd_ada bd_boom bd_fat bd_gas bd_haus bd_klub bd_pure bd_sone bd_tek bd_zome bd_zum drum_bass_hard "
    "drum_bass_soft drum_heavy_kick elec_hollow_kick elec_soft_kick",
    "snare": "drum_snare_hard drum_snare_soft elec_filt_snare elec_hi_snare elec_lo_snare elec_mid_snare elec_snare "
    "sn_dolf sn_dub sn_zome",
    "tom": "drum_tom_hi_hard drum_tom_hi_soft drum_tom_lo_hard drum_tom_lo_soft drum_tom_mid_hard drum_tom_mid_soft "
    "elec_fuzz_tom",
    "cymbal": "drum_cymbal_closed drum_cymbal_hard drum_cymbal_open drum_cymbal_pedal drum_cymbal_soft "
    "drum_splash_hard drum_splash_soft elec_cymbal",
    "tabla": "tabla_dhec tabla_ghe1 tabla_ghe2 tabla_ghe3 tabla_ghe4 tabla_ghe5 tabla_ghe6 tabla_ghe7 tabla_ghe8 "
    "tabla_ke1 tabla_ke2 tabla_ke3 tabla_na tabla_na_o tabla_na_s tabla_re tabla_tas1 tabla_tas2 tabla_tas3 tabla_te1 "
    "tabla_te2 tabla_te_m tabla_te_ne tabla_tun1 tabla_tun2 tabla_tun3",
    "bell": "drum_cowbell elec_beep elec_bell elec_blip elec_blip2 elec_bong elec_chime elec_ping elec_triangle "
    "perc_bell",
}


def licences(text: str) -> dict[str, str]:
    """File name -> the licence that Debian's copyright file gives it."""
    found = {}
    for paragraph in re.split(r"\n\s*\n", text):
        files, licence = re.search(r"Files: *(\S+)\n", paragraph), re.search(r"License: *(\S+)", paragraph)
        if files and licence:
            found[Path(files[1]).name] = licence[1]
    return found


def clip_of(path: Path) -> np.ndarray:
    """The first half second of a sound, float64 ``[CLIP]`` with a peak of 1."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-ac", "1", "-ar", str(RATE)]
    raw = subprocess.run([*command, "-f", "f32le", "-"], capture_output=True, check=True).stdout
    sound = np.frombuffer(raw, np.float32).astype(np.float64)
    clip = np.zeros(CLIP)
    clip[: min(CLIP, len(sound))] = sound[:CLIP]
    if len(sound) > CLIP - FADE:
        clip[-FADE:] *= 0.5 + 0.5 * np.cos(np.linspace(0, np.pi, FADE))
    return clip / np.abs(clip).max()


def save(name: str, names: list[str], labels: list[int], held_out: list[bool], clips: list[np.ndarray]) -> None:
    """Write recordings, each with a peak of at most 1, as data/``name`` and its checksum."""
    path = DATA / name
    np.savez_compressed(
        path,
        clips=np.stack([np.round(clip * 32_767).astype(np.int16) for clip in clips]),
        labels=np.array(labels, np.uint8),
        held_out=np.array(held_out),
        names=np.array(names),
    )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    checksums = json.loads((DATA / "checksums.json").read_text()) | {path.name: digest}
    (DATA / "checksums.json").write_text(json.dumps(checksums, indent=2) + "\n")
    size = path.stat().st_size
    print(f"{path.name}: {len(names)} recordings, {sum(held_out)} held out, {size:,} bytes, SHA-256 {digest}")


def main(package: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
        licence = licences((Path(folder) / COPYRIGHT).read_text())
        names, labels, held_out, clips = [], [], [], []
        for label, kind in enumerate(DRUMS):
            for index, name in enumerate(SOURCES[kind].split()):
                if (found := licence.get(f"{name}.flac", "none")) != "CC0":
                    raise SystemExit(f"{name}.flac has the licence {found}; only sounds under CC0 may ship.")
                names.append(name)
                labels.append(label)
                held_out.append(index % HELD_OUT == HELD_OUT - 1)
                clips.append(clip_of(Path(folder) / SOUNDS / f"{name}.flac"))
    save("drums.npz", names, labels, held_out, clips)


if __name__ == "__main__":
    main(*sys.argv[1:])
