"""The translator: hot regions of decoded code become machine code of their own. See docs/translator.md.

* `template`: what instructions do, as LLVM text with holes (made at build time by `runtime.cpu.templates`);
* `region`: a region's shape, found by walking decoded records;
* `text`: a region's LLVM text;
* `compiler`: machine code from that;
* `worker`: the process in which that happens;
* `translator`: finds hot code, and puts finished regions in place.
"""
