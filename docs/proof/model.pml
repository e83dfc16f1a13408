/* The lock protocol of unitofwork, for spin: units that share a pool, names, tables and rows.
 *
 * A unit runs a program of K statements. The server takes the lock that a statement needs by itself, and waits
 * for it: `statement`. The protocol asks for the lock before: `request`. With it no statement may ever have to
 * wait; that is asserted, unless a variant opens a hole. README.md says what is claimed and which variant
 * belongs to which rule.
 *
 * Sizes:     NT units, NR rows, K statements each, POOL connections, CONNS connections to a unit,
 *            BOUND restarts of a unit at most
 * Modes:     default exclusive; MODES share and update; PGMODES all four row modes of PostgreSQL
 * Programs:  default fixed; DYNAMIC chosen again after each restart
 *            FRESH: the keys of each attempt are new ones, so what was learnt about rows is of no use
 * More:      NAMES rows 0 and 1 are the names of unique values, inserted by the statement
 *            SAVEPOINT part of the program is rolled back to a savepoint
 *            ABSENT others create and delete rows meanwhile
 *            TRIGGER a write to any other row also writes row 0; DECLARED: the unit knows
 *            TABLES tables of two rows with locks of their own; SERIAL=n: table locks after n restarts
 *            INSERTS a program may begin with a new row of the last table, which refers to row 0
 *            INNER one statement is sent by an inner unit with its own transaction
 *            TRIPWIRE a wait that was not asked for ends in a restart
 * Variants:  NAIVE sends the statements without asking for their locks before
 *            NAIVE_UPGRADE, NAIVE_POOL, NAIVE_NAMES, NAIVE_TABLES, NAIVE_INNER wait where the protocol tries
 *            NAIVE_NOWAIT KEY SHARE waits in spite of NOWAIT
 *            NOWAIT_BLIND a restart learns nothing
 *            NO_NAMES unique values are inserted without their names
 *            BOOK_KEPT the book is not restored by a rollback to a savepoint
 *            LOCKS_KEPT the book is restored, but the locks were taken before the SAVEPOINT was sent
 *            BOOK_ABSENT a row that was asked for counts as held although it was not there
 *            UNCOUNTED_TABLE a table whose row was not there does not count as held
 *            NAIVE_SERIAL table locks are waited for one after the other, in order
 */
#ifndef NT
#define NT 3
#endif
#ifndef NR
#define NR 3
#endif
#ifndef K
#define K 3
#endif
#ifndef POOL
#define POOL NT
#endif
#ifndef CONNS
#define CONNS 1
#endif
#ifndef BOUND
#define BOUND (K - 1)
#endif

/* ---- What a program is: a number, whose digits are its statements -------------------------------------- */
#ifdef PGMODES
#define NM 4
#else
#ifdef MODES
#define NM 2
#else
#define NM 1
#endif
#endif
#if defined(SAVEPOINT)
#define NX 4                                   /* none, around the first, the first two, the second statement */
#elif defined(INNER)
#define NX (K + 1)                             /* none, or which statement is the inner unit's */
#elif defined(INSERTS)
#define NX 2                                   /* none, or before the first statement */
#else
#define NX 1
#endif
#if K == 2
#define PROGRAMS (NR * NM * NR * NM * NX)
#else
#define PROGRAMS (NR * NM * NR * NM * NR * NM * NX)
#endif

inline decode(p) {
  extra = p % NX; n = p / NX; i = 0;
  do
  :: i < K ->
     prow[i] = n % NR; n = n / NR;
#ifdef PGMODES
     pmode[i] = 1 + n % NM;
#else
     pmode[i] = (n % NM -> 2 : 4);
#endif
     n = n / NM; i++
  :: else -> break
  od;
  i = 0; n = 0
}

/* ---- The server ----------------------------------------------------------------------------------------- */
/* Modes: 1 KEY SHARE, 2 SHARE, 3 NO KEY UPDATE, 4 UPDATE. Each row has two parts, key before rest; 1 shares
 * the key, 2 shares both, 3 owns the rest, 4 owns both. That gives PostgreSQL's whole table of conflicts. */
byte kx[NR]; byte ks[NR];                      /* key: its owner, 0 for none; those who share it, a bit each */
byte rx[NR]; byte rs[NR];                      /* rest */
byte pool = POOL;
#ifdef NAIVE_POOL
#define TAKEN       1
#else
#define TAKEN       CONNS
#endif
#define BIT         (1 << (id - 1))
#define OTHERS      (255 - BIT)
#define ALONE(o)    ((o) == 0 || (o) == id)
#define FREE(r, m)  (((m) == 3 || ALONE(kx[r])) && ((m) == 1 || ALONE(rx[r])) \
                     && ((m) != 4 || (ks[r] & OTHERS) == 0) && ((m) < 3 || (rs[r] & OTHERS) == 0))
#define MINE(r, m)  (((m) == 1 && ((ks[r] & BIT) || rx[r] == id)) \
                     || ((m) == 2 && ((rs[r] & BIT) || rx[r] == id)) \
                     || ((m) == 3 && rx[r] == id) || ((m) == 4 && kx[r] == id && rx[r] == id))
inline take(r, m) {
  if
  :: m == 1 -> ks[r] = ks[r] | BIT
  :: m == 2 -> ks[r] = ks[r] | BIT; rs[r] = rs[r] | BIT
  :: m == 3 -> rx[r] = id
  :: m == 4 -> kx[r] = id; rx[r] = id
  fi
}
inline drop(r) {
  if :: kx[r] == id -> kx[r] = 0 :: else fi;
  if :: rx[r] == id -> rx[r] = 0 :: else fi;
  ks[r] = ks[r] & OTHERS; rs[r] = rs[r] & OTHERS
}

#ifdef ABSENT
bool gone[NR];
#define EXISTS(r)   (!gone[r])
#else
#define EXISTS(r)   true
#endif

#ifdef NAMES
#define NV 2
byte value[NV];                                /* who has inserted this unique value and not yet ended */
#endif

#ifdef TABLES
#define NTAB        ((NR + 1) / 2)
#define TAB(r)      ((r) / 2)
byte tx[NTAB]; byte ts[NTAB]; byte tq[NTAB];   /* EXCLUSIVE; shared; in line for EXCLUSIVE */
/* A table lock has a queue: who does not hold it yet waits behind those in line. */
#define TFREE(t)    (ALONE(tx[t]) && ((tq[t] & OTHERS) == 0 || (ts[t] & BIT)))
#define TXFREE(t)   (ALONE(tx[t]) && (ts[t] & OTHERS) == 0)
#ifdef SERIAL
byte serial;                                   /* the unit that is in its serial mode: a name */
#endif
#define GRANTABLE(r, m) (TFREE(TAB(r)) && (!EXISTS(r) || FREE(r, m)))
#else
#define GRANTABLE(r, m) (!EXISTS(r) || FREE(r, m))
#endif

#if defined(NAIVE) || defined(BOOK_KEPT) || defined(BOOK_ABSENT) || defined(NO_NAMES)
#define HOLES
#elif defined(TRIGGER) && !defined(DECLARED)
#define HOLES
#endif

/* What the server does when a statement on row r is sent; it may find that it must wait. */
inline sent(free, mine) {
#if defined(TRIPWIRE)
  if :: free :: else -> restart() fi
#elif defined(HOLES)
  free
#else
  assert(free); assert(mine)
#endif
}
inline statement(r, m) {
#ifdef NAMES
  if
  :: r < NV -> sent(ALONE(value[r]), true); value[r] = id
  :: else -> sent(FREE(r, m), MINE(r, m)); take(r, m)
  fi
#else
  if
  :: !EXISTS(r)
  :: else -> sent(FREE(r, m), MINE(r, m)); take(r, m)
  fi
#endif
}

/* ---- The unit's book ------------------------------------------------------------------------------------ */
/* held: the mode of each row that is held; top: 1 + the greatest of them; ttop: the same for tables. */
inline enter(r, m) {
#ifdef BOOK_ABSENT
  held[r] = m; if :: r + 1 > top -> top = r + 1 :: else fi;
#endif
  if
  :: EXISTS(r) -> take(r, m); held[r] = m; if :: r + 1 > top -> top = r + 1 :: else fi
  :: else
  fi;
#ifdef TABLES
  ts[TAB(r)] = ts[TAB(r)] | BIT;
#ifdef UNCOUNTED_TABLE
  if :: EXISTS(r) && TAB(r) + 1 > ttop -> ttop = TAB(r) + 1 :: else fi
#else
  if :: TAB(r) + 1 > ttop -> ttop = TAB(r) + 1 :: else fi
#endif
#endif
}

/* The end of the transaction: everything goes back. */
inline ended() {
  n = 0;
  do
  :: n < NR -> drop(n); held[n] = 0; n++
  :: else -> break
  od;
#ifdef NAMES
  n = 0;
  do
  :: n < NV -> if :: value[n] == id -> value[n] = 0 :: else fi; n++
  :: else -> break
  od;
#endif
#ifdef TABLES
  n = 0;
  do
  :: n < NTAB -> if :: tx[n] == id -> tx[n] = 0 :: else fi; ts[n] = ts[n] & OTHERS; n++
  :: else -> break
  od;
  ttop = 0;
#ifdef SERIAL
  if :: serial == id -> serial = 0 :: else fi;
#endif
#endif
  pool = pool + TAKEN; top = 0; n = 0; r = 0; m = 0; i = 0
}

inline restart() {
  ended();
#if defined(FRESH) && defined(SERIAL)
  if :: restarts < SERIAL -> restarts++ :: else fi;
#elif !defined(NOWAIT_BLIND) && !defined(TRIPWIRE) && !defined(INNER) && !defined(FRESH)
  restarts++; assert(restarts <= BOUND);
#endif
#ifdef DYNAMIC
  goto chosen_again
#else
  goto again
#endif
}

/* The wanted set of the next attempt: what was held, and what was refused. */
inline learn(r, m) {
#ifndef NOWAIT_BLIND
  n = 0;
  do
  :: n < NR ->
#ifndef FRESH
     if :: held[n] > want[n] -> want[n] = held[n] :: else fi;
#endif
#ifdef SERIAL
     if :: held[n] > 0 -> twant[TAB(n)] = true :: else fi;
#endif
     n++
  :: else -> break
  od;
#ifndef FRESH
  if :: m > want[r] -> want[r] = m :: else fi;
#endif
#ifdef SERIAL
  twant[TAB(r)] = true;
#endif
#endif
  skip
}

#ifdef TABLES
#define ABOVE(r)    ((r) >= top && TAB(r) + 1 >= ttop)
#else
#define ABOVE(r)    ((r) >= top)
#endif
/* KEY SHARE to NO KEY UPDATE on the greatest row is in order: the rest comes after the key. */
#define IN_ORDER(r, m) ((held[r] == 0 && ABOVE(r)) || (held[r] == 1 && m == 3 && r + 1 == top))

inline request(r, m) {
  if
  :: held[r] >= m
#ifdef TABLES
  :: held[r] < m && tx[TAB(r)] == id -> assert(!EXISTS(r) || FREE(r, m)); enter(r, m)
  :: held[r] < m && tx[TAB(r)] != id && IN_ORDER(r, m) ->
     TFREE(TAB(r)); ts[TAB(r)] = ts[TAB(r)] | BIT;
     GRANTABLE(r, m); enter(r, m)
  :: held[r] < m && tx[TAB(r)] != id && !IN_ORDER(r, m) ->
#else
  :: held[r] < m && IN_ORDER(r, m) -> GRANTABLE(r, m); enter(r, m)
#ifdef NAIVE_UPGRADE
  :: held[r] < m && held[r] > 0 && !IN_ORDER(r, m) -> FREE(r, m); enter(r, m)
  :: held[r] < m && held[r] == 0 && !IN_ORDER(r, m) ->
#elif defined(NAIVE_NAMES)
  :: held[r] < m && r < NV && !IN_ORDER(r, m) -> FREE(r, m); enter(r, m)
  :: held[r] < m && r >= NV && !IN_ORDER(r, m) ->
#elif defined(NAIVE_NOWAIT)
  :: held[r] < m && m == 1 && !IN_ORDER(r, m) -> FREE(r, m); enter(r, m)
  :: held[r] < m && m != 1 && !IN_ORDER(r, m) ->
#else
  :: held[r] < m && !IN_ORDER(r, m) ->
#endif
#endif
#ifdef NAIVE_TABLES
     TFREE(TAB(r)); ts[TAB(r)] = ts[TAB(r)] | BIT;         /* NOWAIT says nothing about the lock of the table */
#endif
     if
     :: GRANTABLE(r, m) -> enter(r, m)
     :: else -> learn(r, m); restart()
     fi
  fi
}

/* ---- The unit ------------------------------------------------------------------------------------------- */
proctype Unit(byte id; short program) {
  byte held[NR]; byte want[NR]; byte prow[K]; byte pmode[K];
  byte i, r, m, top, restarts, extra; short n;
#ifdef SAVEPOINT
  byte saved[NR];
#endif
#ifdef TABLES
  byte ttop; bool twant[NTAB];
#endif

  atomic { decode(program) };
#ifdef DYNAMIC
  goto again;
chosen_again:
  atomic { select(n : 0 .. PROGRAMS - 1); program = n; decode(program) };
#endif
again:
  atomic { pool >= TAKEN -> pool = pool - TAKEN };         /* all at once, before any lock */

#ifdef SERIAL
  if
  :: restarts >= SERIAL ->
     atomic { serial == 0 -> serial = id };
     r = 0;
     do
#ifdef NAIVE_SERIAL
     :: atomic { r < NTAB && twant[r] ->
#else
     :: atomic { r < NTAB && twant[r] && ttop > 0 ->       /* a table is held: give way to who has this one */
        if
        :: TXFREE(r) -> tx[r] = id; if :: r + 1 > ttop -> ttop = r + 1 :: else fi; r++
        :: else -> n = 0;
           do
           :: n < NTAB -> if :: tx[n] == id -> tx[n] = 0 :: else fi; n++
           :: else -> n = 0; break
           od;
           ttop = 0; TXFREE(r); r = 0                       /* nothing is held meanwhile */
        fi }
     :: atomic { r < NTAB && twant[r] && ttop == 0 ->      /* nothing is held but the name: wait */
#endif
        tq[r] = tq[r] | BIT; TXFREE(r); tx[r] = id; tq[r] = tq[r] & OTHERS; ttop = r + 1; r++ }
     :: atomic { r < NTAB && !twant[r] -> r++ }
     :: r == NTAB -> break
     od;
     r = 0
  :: else
  fi;
#endif
  do                                                       /* the wanted set, sorted, waiting */
  :: atomic { r < NR && want[r] > 0 -> m = want[r]; request(r, m); r++; m = 0 }
  :: atomic { r < NR && want[r] == 0 -> r++ }
  :: r == NR -> r = 0; break
  od;

  do
  :: atomic { i < K ->
#ifdef INSERTS
     if
     :: extra == 1 && i == 0 ->
        if
        :: top == 0 && ttop == 0                           /* sent as it is */
        :: else -> request(0, 1)
        fi;
        TFREE(NTAB - 1); ts[NTAB - 1] = ts[NTAB - 1] | BIT;
        TFREE(0); ts[0] = ts[0] | BIT;
        if
        :: held[0] == 0 -> GRANTABLE(0, 1); enter(0, 1)
        :: else
        fi;
        ttop = NTAB
     :: else
     fi;
#endif
     r = prow[i]; m = pmode[i];
#ifdef SAVEPOINT
     if
     :: (extra == 1 || extra == 2) && i == 0 || extra == 3 && i == 1 ->
        n = 0; do :: n < NR -> saved[n] = held[n]; n++ :: else -> n = 0; break od
     :: (extra == 1 && i == 1) || (extra > 1 && i == 2) ->
        n = 0; top = 0;
        do
        :: n < NR ->
#ifndef LOCKS_KEPT
           drop(n); if :: saved[n] > 0 -> take(n, saved[n]) :: else fi;
#endif
#ifndef BOOK_KEPT
           held[n] = saved[n];
#endif
           if :: held[n] > 0 -> top = n + 1 :: else fi;
           n++
        :: else -> n = 0; break
        od
     :: else
     fi;
#endif
#ifdef INNER
     if
     :: extra == i + 1 ->                                  /* another transaction of the same tree */
        if
        :: held[r] > 0                                     /* its own tree holds it: an error, no wait */
#ifdef NAIVE_INNER
        :: held[r] == 0 -> FREE(r, m)
#else
        :: held[r] == 0 && ABOVE(r) -> FREE(r, m)
        :: held[r] == 0 && !ABOVE(r) -> if :: FREE(r, m) :: else -> restart() fi
#endif
        fi;
        goto next
     :: else
     fi;
#endif
#ifdef DECLARED
     request(0, 4);
#endif
#if defined(NO_NAMES)
     if :: r >= NV -> request(r, m) :: else fi;
#elif !defined(NAIVE)
     request(r, m);
#endif
#ifdef NAIVE
     statement(r, m);
#elif defined(NO_NAMES)
     if :: r < NV || held[r] >= m -> statement(r, m) :: else fi;
#else
     if :: held[r] >= m -> statement(r, m) :: else fi;     /* a row that was not there is not written */
#endif
#ifdef TRIGGER
     if :: r != 0 -> statement(0, 4) :: else fi;
#endif
#ifdef NAIVE_POOL
     if :: i == 0 -> pool > 0 :: else fi;                  /* one more for a moment, while one is held */
#endif
#ifdef INNER
next:
#endif
     i++; r = 0; m = 0 }
  :: atomic { i == K -> ended(); break }
  od
}

#ifdef ABSENT
/* Others create and delete rows, in transactions too short to be seen. */
proctype Others() {
  byte n, r;
  do
  :: atomic { n < 2 ->
     select(r : 0 .. NR - 1);
     if
     :: kx[r] == 0 && rx[r] == 0 && ks[r] == 0 && rs[r] == 0 -> gone[r] = !gone[r]
     :: else
     fi;
     n++; r = 0 }
  :: n == 2 -> break
  od
}
#endif

/* Units differ in their program only, so their programs are chosen in ascending order. */
init {
  short p = 0; byte id = 1;
  atomic {
#ifdef ABSENT
    run Others();
#endif
    do
    :: id <= NT -> select(p : p .. PROGRAMS - 1); run Unit(id, p); id++
    :: else -> break
    od
  }
  _nr_pr == 1 -> assert(pool == POOL)                      /* all are done: every connection is back */
}
