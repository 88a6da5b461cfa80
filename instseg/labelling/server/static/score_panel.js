// Objects of the model with a low score: marked from a slider on, and deleted together.

const STORE = "instseg-score";
const by = (id) => document.getElementById(id);

export class ScorePanel {
  #picture;
  #act;
  #say;
  #below = Number(localStorage.getItem(STORE) ?? 0);

  /** `act(action)` sends an action; `say(text)` tells why none is sent. */
  constructor(picture, act, say) {
    this.#picture = picture;
    this.#act = act;
    this.#say = say;
    by("score").value = this.#below;
    by("score").addEventListener("input", () => {
      this.#below = Number(by("score").value);
      localStorage.setItem(STORE, this.#below);
      this.mark(picture.objects);
      picture.restyle();
    });
    by("remove-doubtful").addEventListener("click", () => this.remove());
  }

  /** Marks those of some objects whose score is below that of the slider; id to { confirmed, score, doubtful }. */
  mark(objects) {
    for (const object of objects.values()) object.doubtful = !object.confirmed && object.score != null && object.score < this.#below;
    by("scores").hidden = ![...objects.values()].some((object) => object.score != null);
    const count = doubtful(objects).length;
    const key = Object.assign(document.createElement("kbd"), { textContent: "X" });
    by("score-value").textContent = this.#below.toFixed(2);
    by("remove-doubtful").replaceChildren(`Remove ${count} ${count === 1 ? "object" : "objects"} `, key);
    by("remove-doubtful").disabled = !count;
  }

  /** Deletes what is marked. */
  remove() {
    const ids = doubtful(this.#picture.objects);
    if (ids.length) this.#act({ kind: "delete", ids });
    else this.#say("No object is marked. Set the score below which objects are doubtful, on the right.");
  }
}

const doubtful = (objects) => [...objects].filter(([, object]) => object.doubtful).map(([id]) => id);
