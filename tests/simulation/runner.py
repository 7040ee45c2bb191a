import argparse, collections, sys, time
from tests.simulation.history import Simulator
from tests.simulation.plan import draw

def main():
    p=argparse.ArgumentParser(); p.add_argument("--first-seed",type=int,default=0); p.add_argument("--histories",type=int,default=100)
    p.add_argument("--seed",type=int)
    a=p.parse_args()
    sim=Simulator()
    with sim.installed():
        if a.seed is not None:
            r=sim.run(draw(a.seed),trace=True)
            print("\n".join(r.plan.describe())); print("\n".join(r.trace)); print(r.wrong); return
        t=time.perf_counter(); bad=collections.Counter(); n=0
        kinds={}
        for seed in range(a.first_seed,a.first_seed+a.histories):
            r=sim.run(draw(seed)); n+=1
            if r.wrong:
                k=r.wrong[:60]; bad[k]+=1; kinds.setdefault(k,(seed,r.wrong[:300]))
        d=time.perf_counter()-t
        print(n, "histories", n/d,"/s", sum(bad.values()),"wrong")
        for k,c in bad.most_common(40): print(c,kinds[k])
main
