"""Make data/piano.npz: notes of a piano at 8 kHz, 4,096 samples each, every fourth key held out.

    python scripts/build/piano.py

It needs the Debian packages fluidsynth and fluid-soundfont-gm (Fluid R3 by Frank Wen, under the MIT licence), and mido
(``pip install mido``), which writes the score. The soundfont's first instrument is a grand piano.
"""

import subprocess
import tempfile
from pathlib import Path

import imageio_ffmpeg
import mido
from drums import HELD_OUT, clip_of, save

SOUNDFONT = "/usr/share/sounds/sf2/FluidR3_GM.sf2"
LOWEST, HIGHEST = 36, 95  # C2 to B6: five octaves; the highest has half its overtones above half the rate
TOUCHES = {"soft": 45, "hard": 120}  # MIDI velocities
APART = 2  # seconds from note to note, a half of which a key is held
NOTES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


def score(path: Path, velocity: int) -> None:
    """All notes one after the other, two seconds each."""
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=1_000_000), mido.Message("program_change", program=0)])
    for key in range(LOWEST, HIGHEST + 1):
        track.append(mido.Message("note_on", note=key, velocity=velocity, time=0 if key == LOWEST else 480))
        track.append(mido.Message("note_off", note=key, time=480))
    mido.MidiFile(tracks=[track], ticks_per_beat=480).save(path)


def main() -> None:
    names, labels, held_out, clips = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        sheet, sound, note = (Path(folder) / name for name in ("score.mid", "score.wav", "note.wav"))
        for touch, velocity in TOUCHES.items():
            score(sheet, velocity)
            dry = ["-R", "0", "-C", "0"]  # no reverb, no chorus
            subprocess.run(["fluidsynth", "-ni", *dry, "-F", sound, SOUNDFONT, sheet], check=True, capture_output=True)
            for index, key in enumerate(range(LOWEST, HIGHEST + 1)):
                part = ["-ss", str(index * APART), "-t", str(APART / 2), "-i", sound, note]
                subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *part], check=True)
                names.append(f"{NOTES[key % 12]}{key // 12 - 1} {touch}")
                labels.append((key - LOWEST) // 12)
                held_out.append(index % HELD_OUT == HELD_OUT // 2)  # D, F# and A#: not at the edge of an octave
                clips.append(clip_of(note))
    save("piano.npz", names, labels, held_out, clips)


if __name__ == "__main__":
    main()
