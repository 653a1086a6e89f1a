"""`python -m ntmobile.agent`: what `ntm up` starts in the background."""

from ntmobile.runtime.garbage import modules_only

with modules_only():
    from ntmobile.agent.process import main

main()
