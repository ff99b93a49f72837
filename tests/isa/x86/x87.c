/* x87 without a C library: prints hashes of results and status words */
typedef unsigned long long u64; typedef unsigned int u32; typedef unsigned short u16; typedef unsigned char u8;
static void wr(const char*s,int n){
#ifdef __x86_64__
 long r; __asm__ volatile("syscall":"=a"(r):"0"(1L),"D"(1L),"S"(s),"d"((long)n):"rcx","r11","memory");
#else
 int r; __asm__ volatile("int $0x80":"=a"(r):"0"(4),"b"(1),"c"(s),"d"(n):"memory");
#endif
}
static void ex(int c){
#ifdef __x86_64__
 __asm__ volatile("syscall"::"a"(60L),"D"((long)c));
#else
 __asm__ volatile("int $0x80"::"a"(1),"b"(c));
#endif
 for(;;);}
static void hx(u64 v,int d){char b[17];for(int i=0;i<d;i++)b[i]="0123456789abcdef"[v>>(4*(d-1-i))&15];b[d]=' ';wr(b,d+1);}
static u64 seed=88172645463325252ULL; static u64 rnd(void){seed^=seed<<13;seed^=seed>>7;seed^=seed<<17;return seed;}
struct __attribute__((packed)) T{u64 m;u16 e;u16 pad[3];};
static struct T mk(void){struct T t={0};u64 k=rnd()&15;t.m=rnd()|1ULL<<63;t.e=16383+(int)(rnd()%140)-70;if(rnd()&1)t.e|=0x8000;
 if(k==0){t.m=0;t.e&=0x8000;} if(k==1){t.m=1ULL<<63;t.e|=0x7fff;} if(k==2){t.e|=0x7fff;} if(k==3){t.e&=0x8000;t.m&=~(1ULL<<63);} if(k==4)t.m=1ULL<<63; if(k==5)t.m&=0xffffff8000000000ULL; if(k==6)t.m&=-1ULL<<11; if(k==7)t.e=rnd()&0xffff; if(k==8&&!(rnd()&7))t.m&=~(1ULL<<63); return t;}
static u64 h; static void mix(u64 v){h=(h^v)*0x9E3779B97F4A7C15ULL;h^=h>>29;}
static u16 cws[]={0x37f,0x27f,0x07f,0x77f,0xb7f,0xf7f,0x67f,0xe7f};
#define RES(name,setup,ins) { h=0; u64 bad=0; for(int i=0;i<N;i++){struct T a=mk(),b=mk(),r,s; u16 cw=cws[rnd()&7],sw; u8 env[108]; \
 r.e=s.e=0; r.m=s.m=0; \
 __asm__ volatile("fninit\n fldcw %4\n fldt %2\n fldt %1\n fnclex\n" ins "\n fnstsw %%ax\n mov %%ax,%3\n fnsave %0":"=m"(env):"m"(a),"m"(b),"m"(sw),"m"(cw):"ax","memory"); \
 int j; u16 fsw=sw; mix(fsw & SW); mix(*(u16*)(env+8)); for(j=0;j<2;j++){mix(*(u64*)(env+28+10*j));mix(*(u16*)(env+36+10*j));} \
 if(DUMP&&i<DUMP){hx(a.e,4);hx(a.m,16);hx(b.e,4);hx(b.m,16);hx(cw,4);hx(fsw,4);for(j=0;j<2;j++){hx(*(u16*)(env+36+10*j),4);hx(*(u64*)(env+28+10*j),16);}wr("\n",1);} } \
 wr(name,sizeof(name)-1); wr(" ",1); hx(h,16); wr("\n",1);} 
#ifndef N
#define N 300
#endif
#ifndef DUMP
#define DUMP 0
#endif
#define SW 0xffff
__attribute__((force_align_arg_pointer)) void _start(void){
#ifdef ONLY
 RES("only","",ONLY)
#else
 RES("fadd","","faddp %%st,%%st(1)") RES("fadd1","","fadd %%st(1),%%st") RES("fsub","","fsubp %%st,%%st(1)") RES("fsubr","","fsubrp %%st,%%st(1)")
 RES("fmul","","fmulp %%st,%%st(1)") RES("fdiv","","fdivp %%st,%%st(1)") RES("fdivr","","fdivrp %%st,%%st(1)") RES("fsqrt","","fsqrt") RES("frndint","","frndint")
 RES("fscale","","fscale") RES("fxtract","","fxtract") RES("fprem1","","fprem1") RES("fprem","","fprem")
 RES("fcom","","fcom %%st(1)") RES("fucom","","fucom %%st(1)") RES("ftst","","ftst") RES("fxam","","fxam") RES("fchs","","fchs") RES("fabs","","fabs")
 RES("fxch","","fxch %%st(1)") RES("const","","fstp %%st(0)\n fldl2t\n fldl2e\n faddp\n fldpi\n fmulp\n fldlg2\n fldln2\n fsubrp\n fdivrp")
 RES("fst32","","sub $16,%%esp\n fsts 4(%%esp)\n flds 4(%%esp)\n add $16,%%esp") RES("fst64","","sub $16,%%esp\n fstl 4(%%esp)\n fldl 4(%%esp)\n add $16,%%esp")
 RES("fist16","","sub $16,%%esp\n fists 4(%%esp)\n filds 4(%%esp)\n add $16,%%esp") RES("fist32","","sub $16,%%esp\n fistl 4(%%esp)\n fildl 4(%%esp)\n add $16,%%esp") RES("fist64","","sub $16,%%esp\n fistpll 4(%%esp)\n fildll 4(%%esp)\n add $16,%%esp")
 RES("fisttp","","sub $16,%%esp\n fisttpl 4(%%esp)\n fildl 4(%%esp)\n add $16,%%esp")
 RES("fbstp","","sub $16,%%esp\n fbstp 4(%%esp)\n fbld 4(%%esp)\n add $16,%%esp")
 RES("under","","fstp %%st(0)\n faddp\n fadd %%st(3),%%st") RES("over","","fld1\n fld1\n fld1\n fld1\n fld1\n fld1\n fldz\n fldpi")
 RES("free","","ffree %%st(1)\n fincstp\n fdecstp\n fdecstp\n fld1")
 RES("env","","sub $32,%%esp\n fnstenv (%%esp)\n fld1\n fldenv (%%esp)\n add $32,%%esp")
 RES("save","","sub $112,%%esp\n fnsave (%%esp)\n fld1\n frstor (%%esp)\n add $112,%%esp")
 RES("m32","","sub $16,%%esp\n fsts (%%esp)\n fadds (%%esp)\n fdivs (%%esp)\n fsubrs (%%esp)\n fcoms (%%esp)\n add $16,%%esp")
 RES("m64","","sub $16,%%esp\n fstl (%%esp)\n faddl (%%esp)\n fmull (%%esp)\n fsubrl (%%esp)\n fcompl (%%esp)\n add $16,%%esp")
 RES("mi","","sub $16,%%esp\n fistl (%%esp)\n fiaddl (%%esp)\n fimuls (%%esp)\n fisubrl (%%esp)\n ficompl (%%esp)\n add $16,%%esp")
 RES("f2xm1","","fabs\n fld1\n fxch\n fprem\n fstp %%st(1)\n f2xm1") RES("fyl2x","","fabs\n fyl2x") RES("fpatan","","fpatan") RES("fsin","","fsin") RES("fcos","","fcos") RES("fptan","","fptan") RES("fsincos","","fsincos")
#endif
 ex(0);
}
