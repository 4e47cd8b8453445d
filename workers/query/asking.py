"""Words that ask ("wer", "cuándo", "почему", "what does it say"): a question has them, and what answers it need not.

Most English ones are stop words of its BM25 model.  Of other languages the lists there leave most of them out, and as
hardly any text has them they would count as the rarest words of a question, whose absence says that the answer is not
there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_ASKING: Mapping[str, frozenset[str]] = {
    language: frozenset(words.split())
    for language, words in {
        "arabic": "من ما ماذا متى أين كيف كم لماذا لم بم مم عم أي أية أيها أيهما هل لمن بماذا ممن إلام",
        "danish": "hvem hvad hvilken hvilket hvilke hvornår hvor hvorfor hvordan hvorhen hvoraf hvormed",
        "dutch": "wie wat welke welk wiens wanneer waar waarom waarin waarmee waarvan waarvoor waarheen hoe hoeveel",
        "english": "say says said tell tells told according mention mentions mentioned",
        "finnish": "kuka ketä kenen kenelle ketkä mikä mitä minkä mitkä milloin koska missä mihin mistä minne miksi"
        " miten kuinka montako paljonko kumpi millainen",
        "french": "qui que quoi quel quelle quels quelles lequel laquelle lesquels lesquelles quand où comment combien"
        " pourquoi",
        "german": "wer wem wen wessen was wann wo wohin woher warum weshalb wieso wie welche welcher welches welchen"
        " welchem wofür womit wodurch woran worauf woraus worin worüber wovon wozu wobei wonach",
        "greek": "ποιος ποια ποιο ποιοι ποιες ποιον ποιους τι τίνος πότε πού πώς γιατί πόσο πόση πόσοι πόσες πόσα",
        "hungarian": "ki kit kinek kik mi mit mik milyen mely melyik melyek mikor meddig hol hová honnan miért hogyan"
        " hány hányan mennyi",
        "italian": "chi che cosa quale quali quando dove come quanto quanta quanti quante perché",
        "norwegian": "hvem hva hvilken hvilket hvilke når hvor hvorfor hvordan",
        "portuguese": "quem que quê qual quais quando onde aonde como quanto quanta quantos quantas porque porquê",
        "romanian": "cine cui ce care când unde cum cât câtă câți câte",
        "russian": "кто кого кому кем ком что чего чему чем чём какой какая какое какие какого каких каким какую какой"
        " который которая которое которые когда где куда откуда почему зачем отчего как сколько чей чья чьё чьи",
        "spanish": "qué quién quiénes cuál cuáles cuándo cuánto cuánta cuántos cuántas cómo dónde adónde",
        "swedish": "vem vems vad vilken vilket vilka när var vart varifrån varför hur",
        "turkish": "kim kimi kime kimin kimler ne nedir neyi neden hangi hangisi hangileri nerede nereye nereden niçin"
        " niye nasıl kaç kaçıncı",
    }.items()
}


def asks(word: str, languages: Sequence[str]) -> bool:
    """Tell whether a word of a question only asks.  No word does where it is open which of ``languages`` it is in.

    English is the language when there is none.
    """
    return len(languages) < 2 and word.casefold() in _ASKING.get(languages[0] if languages else "english", ())
