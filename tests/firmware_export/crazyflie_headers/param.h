/* Parameters as a table that a test can search. */
#ifndef PARAM_H
#define PARAM_H
#define PARAM_UINT8 1
#define PARAM_UINT16 2
#define PARAM_UINT32 3
#define PARAM_FLOAT 7
struct variable {
    const char *name;
    int type;
    void *address;
};
#define PARAM_GROUP_START(NAME) struct variable params_##NAME[] = {
#define PARAM_ADD(TYPE, NAME, ADDRESS) {#NAME, TYPE, (void *)(ADDRESS)},
#define PARAM_GROUP_STOP(NAME) {0, 0, 0}};
#endif
