"""Every word of the page, in English and in Chinese. A text with "|" gives the singular and the plural; the number is `n`."""

from __future__ import annotations

from typing import Any

LANGS = ("en", "zh")

WORDS: dict[str, tuple[str, str]] = {
    # the page
    "page": ("Run report", "运行报告"),
    "switch": ("Language", "语言"),
    "contents": ("Contents", "目录"),
    "unscored": ("could not be scored", "无法评分"),
    "more": ("{n} characters in all", "全文共 {n} 字"),
    "cut": ("… cut here; {n} characters in all", "……以下略去，全文共 {n} 字"),
    "as_table": ("The figures as a table", "用表格查看数字"),
    "empty": ("(empty)", "（空）"),
    "task": ("Task", "任务"),
    "all": ("All tasks", "全部任务"),
    "total": ("Total", "合计"),
    "rows": ("Rows", "行数"),
    "footer": (
        "Made by zhiling from the run's own folder. Every number on this page can be asked for again with",
        "由 zhiling 根据运行文件夹生成。本页的每个数字都可以用以下命令重新查到：",
    ),
    # the title
    "title.better": ("{n} of {all} tasks better", "{all} 项任务中 {n} 项更好"),
    "title.worse": ("{n} worse", "{n} 项更差"),
    "title.same": ("{n} cannot tell", "{n} 项无法判断"),
    "title.comma": (", ", "，"),
    "title.kept": ("{n} row kept, not yet evaluated|{n} rows kept, not yet evaluated", "保留 {n} 行，尚未评估"),
    "title.made": ("{n} row constructed, not yet selected|{n} rows constructed, not yet selected", "构造 {n} 行，尚未挑选"),
    "space": (" ", ""),
    "colon": (": ", "："),
    "lead.kept": (
        "{n} of the {came} rows that came in were kept.",
        "进来的 {came} 行中，保留了 {n} 行。",
    ),
    "lead.heldout": (
        "The base model and the tuned model answered the same {n} held-out rows, which neither construction nor tuning had seen.",
        "原模型和微调后的模型回答了同样的 {n} 行留出数据；构造和微调都没有见过它们。",
    ),
    "lead.overall": ("Over all tasks, each weighing the same — {words}.", "各任务权重相同，合起来——{words}。"),
    "tile.came": ("rows came in", "进来的行"),
    "tile.kept": ("rows kept", "保留的行"),
    "tile.ways": ("ways of constructing", "构造方式"),
    "tile.difference": ("tuned minus base, points", "微调后减原模型（分）"),
    "tile.spent": ("spent on models", "模型花费"),
    "tile.per_row": ("{usd} per kept row", "每保留一行 {usd}"),
    "tile.share": ("{share} of what came in", "占进来的 {share}"),
    "facts.seed": ("seed", "种子"),
    "facts.engine": ("engine", "引擎"),
    "facts.until": ("run up to", "运行到"),
    # states, ways, steps
    "state.open": ("not kept", "未保留"),
    "state.kept": ("kept", "保留"),
    "state.dropped": ("dropped", "丢弃"),
    "state.merged": ("merged", "合并"),
    "state.failed": ("failed", "失败"),
    "state.quarantined": ("quarantined", "隔离"),
    "way.template": ("template", "模板"),
    "way.retrieve": ("retrieve", "检索"),
    "way.generate": ("generate", "生成"),
    "place.quarantined": ("unreadable lines of the data", "数据中读不出的行"),
    "place.failed": ("could not be built", "构造失败"),
    "place.merged": ("equal to a row made before", "与先前的行相同"),
    "place.proposal": ("wordings that lost", "落选的措辞"),
    "place.making": ("refused while made: {name}", "构造时未通过检查：{name}"),
    "select.verify": ("refused by the task's verifier", "未通过任务的校验"),
    "select.heldout": ("too close to a held-out row", "与留出数据太接近"),
    "select.exact": ("exact duplicates", "完全重复"),
    "select.near": ("near duplicates", "近似重复"),
    "select.threshold": ("below a threshold", "未达阈值"),
    "select.hypothesis_only": ("label told from the hypothesis alone", "只看假设就能猜出标签"),
    "select.quota": ("beyond a task's quota", "超出任务配额"),
    "select.top": ("not among the top", "未进入前列"),
    "select.semantic": ("duplicates in meaning", "语义重复"),
    "select.decontaminate": ("leaks from an evaluation set", "评测集泄漏"),
    "select.cover": ("not needed for coverage", "覆盖已足"),
    "select.human": ("a person's review", "人工审核"),
    "score.length": ("Length", "长度"),
    "score.language": ("Language", "语言"),
    "score.echo": ("Repeats the prompt", "复述题面"),
    "score.refusal": ("Refusal", "拒答"),
    "score.placeholder": ("Unfilled placeholders", "未填的占位符"),
    "score.format": ("Format", "格式"),
    "score.grammar": ("Grammar", "语法"),
    "score.clarity": ("Clarity", "清晰度"),
    "score.verify": ("Verified", "校验结果"),
    "score.relevance": ("Relevance to the task", "任务相关度"),
    "score.asks": ("Clear asks", "要求明确"),
    "score.answers": ("Answers the prompt", "答其所问"),
    "score.grammar_lm": ("Grammar, weighed by a model", "语法（模型复核）"),
    "score.lacks_input": ("Input that is gone", "缺少输入"),
    "score.readability": ("Ease of reading", "易读程度"),
    "score.register": ("Formal register", "语体正式程度"),
    "score.safety": ("Unsafe content", "不安全内容"),
    "score.difficulty": ("Difficulty (IFD)", "难度（IFD）"),
    "score.constraints": ("Constraints", "约束数量"),
    "score.faithful": ("Faithful to the input", "忠于输入"),
    "score.judge": ("A model's judgement", "模型评分"),
    "score.quality": ("Quality", "综合质量"),
    "score.wording": ("Wording", "措辞"),
    "score.pii": ("Personal data", "个人信息"),
    "metric.exact_match": ("exact match", "完全匹配"),
    "metric.f1": ("F1", "F1"),
    "metric.chrf": ("chrF", "chrF"),
    "metric.rouge_l": ("ROUGE-L", "ROUGE-L"),
    "metric.rouge_1": ("ROUGE-1", "ROUGE-1"),
    "metric.rouge_2": ("ROUGE-2", "ROUGE-2"),
    "metric.bleu": ("BLEU", "BLEU"),
    "metric.accuracy": ("accuracy", "准确率"),
    "metric.choice": ("accuracy by likelihood", "似然准确率"),
    "metric.execution": ("execution accuracy", "执行准确率"),
    "metric.constraints": ("conditions kept", "约束满足率"),
    "lang.en": ("English", "英文"),
    "lang.zh": ("Chinese", "中文"),
    # the sentence
    "flow": ("The run as one sentence", "一句话看完全程"),
    "flow.lead": (
        "From the data to the rows that a model learns from. The height of a band is its number of rows; its colour is the way that made it.",
        "从数据到模型要学的行。色带的高度是行数，颜色是构造方式。",
    ),
    "flow.records": ("data records", "数据记录"),
    "flow.templates": ("templates", "指令模板"),
    "flow.drafts": ("rows made", "构造出的行"),
    "flow.unique": ("unique rows", "去重后的行"),
    "flow.scored": ("scored", "已评分"),
    "flow.kept": ("kept", "保留"),
    "flow.word": ("worded in {n} way|worded in {n} ways", "用 {n} 种方式措辞"),
    "flow.fill": ("filled with data", "填入数据"),
    "flow.merge": ("−{n} equal", "合并 −{n}"),
    "flow.score": ("{n} scorer|{n} scorers", "{n} 个评分器"),
    "flow.select": ("−{n} dropped", "丢弃 −{n}"),
    "flow.heldout": (
        "{n} row was set aside before construction, for the final test.|{n} rows were set aside before construction, for the final test.",
        "构造之前留出了 {n} 行，只用于最后的评估。",
    ),
    # what was constructed
    "ways": ("What was constructed, and by which way", "用哪种方式构造了什么"),
    "ways.lead": (
        "Per task, the upper bar is all rows made, the lower bar the rows kept, on one scale.",
        "每个任务上面一条是构造出的行，下面一条是保留的行，比例尺相同。",
    ),
    "ways.way": ("Way", "方式"),
    "ways.templates": ("Templates", "指令模板"),
    "ways.made": ("Rows made", "构造"),
    "ways.kept": ("Rows kept", "保留"),
    "ways.share": ("Share kept", "保留比例"),
    "ways.note": ("{made} made, {kept} kept", "构造 {made}，保留 {kept}"),
    "ways.note_made": ("{made} made", "构造 {made}"),
    "ways.tip": ("{way}: {n} row {what}|{way}: {n} rows {what}", "{way}：{what} {n} 行"),
    "ways.tip_made": ("made", "构造"),
    "ways.tip_kept": ("kept", "保留"),
    # scores
    "scores": ("Scores", "评分"),
    "scores.lead": ("Each picture is one scorer over all unique rows.", "每张图是一个评分器对全部去重后的行的评分。"),
    "scores.none": ("The recipe names no scorer.", "配方中没有评分器。"),
    "scores.high": ("higher is better", "越高越好"),
    "scores.low": ("lower is better", "越低越好"),
    "scores.median": ("median {all}; of kept rows {kept}", "中位数 {all}；保留行 {kept}"),
    "scores.median_all": ("median {all}", "中位数 {all}"),
    "scores.unscored": ("∅ {n} row could not be scored:|∅ {n} rows could not be scored:", "∅ {n} 行无法评分："),
    "scores.unscored_tip": ("{n} row could not be scored|{n} rows could not be scored", "{n} 行无法评分"),
    "scores.nobody": ("No row could be scored.", "没有一行能够评分。"),
    "scores.same": ("The same value for every row:", "所有行的值都相同："),
    "scores.above": (
        "{n} row lies beyond the last column and is counted in it.|{n} rows lie beyond the last column and are counted in it.",
        "有 {n} 行超出最后一列，并入该列。",
    ),
    "scores.bin": ("{low} to {high}: {n}", "{low} 至 {high}：{n} 行"),
    "scores.bin_kept": ("{low} to {high}: {n}, of them {kept} kept", "{low} 至 {high}：{n} 行，其中保留 {kept}"),
    "scores.value": ("{low}: {n}", "{low}：{n} 行"),
    "scores.value_kept": ("{low}: {n}, of them {kept} kept", "{low}：{n} 行，其中保留 {kept}"),
    "scores.range": ("Score", "分数"),
    # losses
    "losses": ("Why rows were dropped", "为什么有的行没有留下"),
    "losses.lead": (
        "Every row that came in ends in one place. Each step takes its rows from what the step before left.",
        "进来的每一行都有唯一的去处。每一步都从上一步剩下的行里取走一部分。",
    ),
    "losses.came": ("came in", "进来"),
    "losses.kept": ("kept", "保留"),
    "losses.open": ("Nothing has been selected in this run yet.", "这次运行还没有进行挑选。"),
    "losses.nothing": ("No row was lost.", "没有任何行被去掉。"),
    "losses.reason": ("Reason", "原因"),
    "losses.more": ("and {n} other kind of reason|and {n} other kinds of reason", "另有 {n} 类原因"),
    "losses.example": ("For example", "例如"),
    "losses.rival": ("Beaten by", "胜过它的行"),
    "alone": ("Labels told from hypotheses alone", "只看假设猜标签"),
    "alone.lead": (
        "A small classifier that never saw a premise told the labels (cross-validated). Above chance, a model tuned on these rows can learn "
        "habits of their writer instead of the task; the selector hypothesis_only drops the rows that show them most.",
        "一个看不到前提的小分类器去猜标签（交叉验证）。高于碰巧水平时，模型会学到写作者的习惯而不是任务本身；"
        "选择器 hypothesis_only 可去掉最明显的行。",
    ),
    "alone.accuracy": ("told right", "猜对比例"),
    "alone.commonest": ("commonest label", "最常见标签"),
    "alone.yes": ("gives labels away", "泄露标签"),
    "alone.no": ("no better than chance", "不高于碰巧"),
    "quarantined": ("Unreadable lines", "读不出的行"),
    "quarantined.where": ("File and line", "文件与行号"),
    "quarantined.text": ("Text", "内容"),
    "quarantined.more": ("{n} more is listed by|{n} more are listed by", "其余 {n} 行可用以下命令列出："),
    # the set as a whole
    "varied": ("How varied the set is", "整个数据集有多丰富"),
    "varied.lead": (
        "Counted on {n} rows of each set, as many of those made as of those kept. A set can lose its variety though each row in it is good.",
        "两组各取 {n} 行来算，构造的与保留的行数相同。每一行都好，整体也可能变得单调。",
    ),
    "varied.lead_made": (
        "Counted on {n} rows. A set can lack variety though each row in it is good.",
        "取 {n} 行来算。每一行都好，整体也可能单调。",
    ),
    "varied.none": (
        "There are fewer than two rows: nothing can be said of a set.",
        "不足两行，无法谈论整体。",
    ),
    "varied.asks": ("What the rows ask for", "这些行在求什么"),
    "varied.figure": ("Figure", "指标"),
    "varied.made": ("Rows made", "构造的行"),
    "varied.kept": ("Rows kept", "保留的行"),
    "varied.looked": ("Rows looked at", "查看的行数"),
    "varied.of": ("{looked} of {n}", "{n} 中取 {looked}"),
    "varied.vendi": ("As varied as so many wholly different prompts (Vendi score)", "相当于多少个全然不同的题面（文迪得分）"),
    "varied.nearest": ("Distance to the nearest other prompt, 0 to 1", "与最近的另一题面的距离（0 到 1）"),
    "varied.twins": ("Rows with a near twin (cosine 0.9 or more)", "有近似题面的行（余弦 0.9 及以上）"),
    "varied.distinct": ("Share of distinct word pairs", "不同二元组的比例"),
    "varied.effective": ("As varied as so many equally frequent asks", "相当于多少种同样常见的要求"),
    # tuning
    "loss": ("Loss per task while tuning", "微调中各任务的损失"),
    "loss.lead": (
        "One model learned all tasks together, the loss counted on the answers alone. Each line is one task.",
        "一个模型同时学习全部任务，只在答案上计算损失。每条线是一个任务。",
    ),
    "loss.how": ("{base} tuned with {method} on {n} row|{base} tuned with {method} on {n} rows", "用 {n} 行以 {method} 微调 {base}"),
    "loss.every": ("a point averages {n} steps", "每个点是 {n} 步的平均"),
    "loss.untold": ("The provider told no losses.", "提供方没有给出损失。"),
    "loss.none": ("Nothing was tuned in this run.", "这次运行没有进行微调。"),
    "loss.steps": ("step", "步"),
    "loss.loss": ("loss", "损失"),
    "loss.first": ("First", "开始"),
    "loss.last": ("Last", "结束"),
    "loss.validation": ("Validation, last", "验证（最后）"),
    "loss.dots": ("dots: loss on rows kept out of training", "圆点：未参与训练的验证行的损失"),
    "loss.facts": ("{n} step|{n} steps", "共 {n} 步"),
    "loss.tokens": ("{n} token|{n} tokens", "{n} 个词元"),
    # before and after
    "proof": ("Before and after", "微调之前与之后"),
    "proof.lead": (
        "Both models on the same held-out rows. A verdict is given where the interval of the paired difference leaves out zero"
        " and a paired test agrees; else nobody can tell.",
        "两个模型回答同样的留出数据。只有配对差值的区间不含零、且配对检验也同意，才下结论；否则就是无法判断。",
    ),
    "proof.none": ("Nothing was evaluated in this run.", "这次运行没有进行评估。"),
    "proof.scores": ("Score on held-out rows", "留出数据上的得分"),
    "proof.difference": ("Difference, tuned minus base", "差值：微调后减原模型"),
    "proof.axis": ("points, 0 to 100", "分，0 到 100"),
    "proof.axis_difference": ("points", "分"),
    "proof.metric": ("Metric", "指标"),
    "proof.base": ("Base", "原模型"),
    "proof.tuned": ("Tuned", "微调后"),
    "proof.gain": ("Difference", "差值"),
    "proof.interval": ("Interval", "区间"),
    "proof.interval_of": ("{share} interval", "{share} 区间"),
    "proof.verdict": ("Verdict", "结论"),
    "proof.better": ("better", "更好"),
    "proof.worse": ("worse", "更差"),
    "proof.same": ("cannot tell", "无法判断"),
    "proof.moves": ("Row by row", "逐行比较"),
    "proof.moved": ("{better} better, {worse} worse, {same} equal", "{better} 行更好，{worse} 行更差，{same} 行持平"),
    "proof.failed": ("{n} row had no answer|{n} rows had no answer", "{n} 行没有答案"),
    "proof.langs": ("By language", "按语言"),
    "beside": ("What it cost elsewhere", "别处的代价"),
    "beside.lead": (
        "Both models were also asked what is no part of the tasks: general questions, and asks that only sound dangerous or that one declines.",
        "两个模型还回答了任务之外的内容：常识问题，以及只是听起来危险、或应当拒绝的请求。",
    ),
    "beside.judge": ("A judge's preference", "评审的偏好"),
    "beside.forgetting": ("General knowledge", "通用能力"),
    "beside.too_much": ("Refuses too much?", "是否拒答过多？"),
    "beside.too_little": ("Refuses too little?", "是否拒答过少？"),
    "beside.changed": ("Asks treated otherwise than before", "处理方式发生变化的请求"),
    # answers
    "answers": ("Answers side by side", "答案对照"),
    "answers.lead": (
        "Held-out rows, chosen by their ids alone. Nobody picked them.",
        "留出数据中的几行，仅按编号选出，没有人为挑选。",
    ),
    "answers.none": ("There are no answers in this run.", "这次运行没有答案。"),
    "answers.prompt": ("Prompt", "题面"),
    "answers.reference": ("Reference", "参考答案"),
    "answers.missing": ("no answer", "没有答案"),
    # samples
    "samples": ("Rows that were kept", "保留下来的行"),
    "samples.lead": (
        "A few of each way, chosen by their ids alone. The command tells everything that is known about a row.",
        "每种方式各取几行，仅按编号选出。命令会说出关于这一行的一切。",
    ),
    "samples.none": ("There are no kept rows in this run.", "这次运行没有保留的行。"),
    "samples.prompt": ("Instruction", "指令"),
    "samples.system": ("System", "系统提示"),
    "samples.output": ("Answer", "答案"),
    "samples.from": ("data from {where}", "数据来自 {where}"),
    # wordings
    "wordings": ("Instruction wordings that won and lost", "胜出与落选的指令措辞"),
    "wordings.lead": (
        "Wordings found in the instruction database or proposed by a model. Each was judged before it met any data.",
        "从指令库检索到的和由模型提出的措辞；每一条都在填入数据之前经过评判。",
    ),
    "wordings.none": (
        "No wordings competed in this run: its templates were all written by hand.",
        "这次运行没有措辞之争：模板都是事先写好的。",
    ),
    "wordings.won": ("Won", "胜出"),
    "wordings.lost": ("Lost", "落选"),
    "wordings.rows": ("{made} made, {kept} kept", "构造 {made} 行，保留 {kept} 行"),
    "wordings.rows_made": ("{made} made", "构造 {made} 行"),
    "wordings.more": ("{n} of {all} losing wordings are shown.", "共 {all} 条落选措辞，这里列出 {n} 条。"),
    "wordings.text": ("Wording", "措辞"),
    "wordings.outcome": ("Outcome", "结果"),
    # money
    "bill": ("The bill", "账单"),
    "bill.lead": (
        "What models were asked in all executions of this run, and what that cost. An unknown price is said to be unknown, never zero.",
        "此运行历次执行中向模型提问的次数与花费。不知道的价格会写明未知，绝不当作零。",
    ),
    "bill.none": ("No model was asked.", "没有向模型提问。"),
    "bill.unsure": (
        "{n} attempt broke off unanswered and may be billed all the same.|{n} attempts broke off unanswered and may be billed all the same.",
        "有 {n} 次请求中断而未得到回答；服务方仍可能计费。",
    ),
    "bill.model": ("Model", "模型"),
    "bill.calls": ("Calls", "调用"),
    "bill.cached": ("From cache", "来自缓存"),
    "bill.prompt": ("Prompt tokens", "输入词元"),
    "bill.completion": ("Completion tokens", "输出词元"),
    "bill.failed": ("Failed", "失败"),
    "bill.retries": ("Retries", "重试"),
    "bill.usd": ("Cost", "花费"),
    "bill.unknown": ("price unknown", "价格未知"),
    "bill.some": ("{n} price unknown|{n} prices unknown", "{n} 个价格未知"),
    "bill.least": ("at least {usd}", "至少 {usd}"),
    "bill.per_row": ("Per kept row: {usd}", "每保留一行：{usd}"),
    # the ledger
    "ledger": ("The ledger", "账目"),
    "ledger.lead": ("Every row that ever entered ends in exactly one state.", "曾经进来的每一行都恰好落在一个状态里。"),
    "ledger.good": ("Balanced: {came} rows in, {went} rows out.", "账目相符：进 {came} 行，出 {went} 行。"),
    "ledger.bad": ("NOT BALANCED: {came} rows in, {went} rows out. This is a fault.", "账目不符：进 {came} 行，出 {went} 行。这是一个缺陷。"),
    "ledger.unsure": ("{went} rows are in the ledger; how many came in is not recorded.", "账目中有 {went} 行；没有记下进来了多少行。"),
    "ledger.none": ("The ledger is written at selection; this run has not come so far.", "挑选时才会写账目；这次运行还没有走到那一步。"),
    # the recipe
    "recipe": ("The recipe", "配方"),
    "recipe.lead": ("The whole program of this run, as it was read.", "这次运行的全部程序，原文如此。"),
    "recipe.none": ("The run's folder holds no recipe.", "运行文件夹中没有配方。"),
    "recipe.show": ("Show the recipe", "展开配方"),
}  # fmt: skip


class Words:
    """The page's words in one language: `words("key", n=3)`."""

    def __init__(self, lang: str) -> None:
        self.lang = lang
        self._at = LANGS.index(lang)

    def __call__(self, key: str, **values: Any) -> str:
        """The text of `key`. Whole numbers are written with thousands separators; `n` decides between singular and plural."""
        text = WORDS[key][self._at]
        if "|" in text:
            one, many = text.split("|")
            text = one if values.get("n") == 1 else many
        return text.format(
            **{name: f"{value:,}" if isinstance(value, int) else value for name, value in values.items()}
        )

    def name(self, sort: str, name: str) -> str:
        """What a way, state, scorer, selector, metric or language is called; those that are not ours keep their own name."""
        key = f"{sort}.{name}"
        return WORDS[key][self._at] if key in WORDS else name

    @property
    def code(self) -> str:
        """The language as HTML says it."""
        return "zh-Hans" if self.lang == "zh" else "en"
