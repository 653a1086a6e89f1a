"""`python -m ntmobile.agent`: what `ntm up` starts in the background."""

from ntmobile.agent.process import main

main()
